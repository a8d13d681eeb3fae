"""Clouds are thinned to the best point of each voxel and survive the way through a PLY file."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud, parse_ply, read_ply, voxel_thin, write_ply
from vggt3_ros.geometry.sim3 import Sim3


def cloud(count: int) -> PointCloud:
    generator = torch.Generator().manual_seed(0)
    colors = torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8)
    return PointCloud(
        torch.rand(count, 3, generator=generator) - 0.5,
        colors,
        torch.rand(count, generator=generator),
    )


def test_thinning_keeps_the_most_confident_point_of_each_voxel() -> None:
    full = cloud(500)
    thin = voxel_thin(full, 0.25)
    cells = torch.floor(thin.points / 0.25)
    assert (
        len(thin)
        == len(torch.unique(cells, dim=0))
        == len(torch.unique(torch.floor(full.points / 0.25), dim=0))
    )
    for cell, confidence in zip(cells, thin.confidence, strict=True):
        inside = (torch.floor(full.points / 0.25) == cell).all(-1)
        assert confidence == full.confidence[inside].max()


def test_an_empty_cloud_is_a_cloud(tmp_path) -> None:
    assert len(voxel_thin(cloud(0), 0.1)) == 0
    write_ply(cloud(0), tmp_path / "empty.ply")
    assert len(read_ply(tmp_path / "empty.ply")) == 0


def test_ply_round_trips_exactly(tmp_path) -> None:
    full = cloud(50)
    write_ply(full, tmp_path / "points.ply")
    copy = read_ply(tmp_path / "points.ply")
    for name in ("points", "colors", "confidence"):
        assert torch.equal(getattr(copy, name), getattr(full, name))


def test_far_from_the_origin_points_keep_their_tenths_of_millimetres(tmp_path) -> None:
    cloud = PointCloud(torch.rand(5, 3), torch.zeros(5, 3, dtype=torch.uint8), torch.rand(5))
    far = Sim3(1.0, torch.eye(3).double(), torch.tensor([500_000.0, 5_400_000.0, 0.0]).double())
    write_ply(cloud.transformed(far), tmp_path / "far.ply")
    back = read_ply(tmp_path / "far.ply").transformed(far.inverse())
    torch.testing.assert_close(back.points, cloud.points, atol=1e-6, rtol=0)
    assert cloud.transformed(Sim3.identity()).points.dtype == torch.float32


def test_truncated_and_foreign_ply_files_are_refused(tmp_path) -> None:
    path = tmp_path / "points.ply"
    write_ply(cloud(50), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="truncated"):
        read_ply(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n0 0 0\n")
    with pytest.raises(InputError, match="not a point cloud"):
        read_ply(path)


@pytest.mark.parametrize("count", [b"", b"-1", b"many", b"1 1", b"9" * 5000])
def test_a_header_without_a_sensible_count_is_refused(tmp_path, count) -> None:
    path = tmp_path / "points.ply"
    write_ply(cloud(7), path)
    broken = path.read_bytes().replace(b"element vertex 7", b"element vertex " + count)
    with pytest.raises(InputError, match="points.ply: not a point cloud"):
        parse_ply(broken, "points.ply")
