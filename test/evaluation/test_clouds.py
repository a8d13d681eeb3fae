"""Clouds beside the true surface: a wall of which every distance is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.evaluation.clouds import Within, compare_cloud
from vggt3_ros.evaluation.compared_clouds import NETWORK
from vggt3_ros.evaluation.evaluate import evaluate
from vggt3_ros.evaluation.report import table, write_pictures
from vggt3_ros.evaluation.result import aggregate
from vggt3_ros.evaluation.true_surface import TrueSurface, true_surface
from vggt3_ros.evaluation.voxels import VoxelMeans, voxel_means
from vggt3_ros.geometry.camera import intrinsics_matrix

from .oracle import SPLIT, Oracle, arc_sequence

DISTANCE = 2.0  # of the wall, along z
FAR_AWAY = 6.0  # where the last camera stands, and sees another part of the wall


def wall_sequence(distance: float = DISTANCE, with_depth: bool = True) -> Sequence:
    """Cameras at x = 0, 0.1 and 0.2 m, and one that is not mapped far along the same wall, all
    looking along z.
    """
    poses = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 0.1, 0.2, FAR_AWAY])
    depth = np.full((90, 120), distance, dtype=np.float32)
    return Sequence(
        name="wall",
        names=("a", "b", "c", "d"),
        stamps_ns=(0, 1, 2, 3),
        world_from_cam=poses,
        intrinsics=intrinsics_matrix(120, 120, 59.5, 44.5),
        splits={"all": Split((0, 1, 2), (3,))},
        read_image=lambda i: np.zeros((90, 120, 3), np.uint8),
        read_depth=lambda i: depth if with_depth else None,
    )


def wall(low: float = -1.0, high: float = 1.2, z: float = DISTANCE, step: float = 0.01) -> Tensor:
    """Points (N, 3) of the mapped part of the wall, from x = low to high."""
    x, y = torch.arange(low, high, step), torch.arange(-0.75, 0.75, step)
    return torch.cartesian_prod(x, y, torch.tensor([z])).double()


@pytest.fixture(scope="module")
def surface() -> TrueSurface:
    found = true_surface(wall_sequence(), (0, 1, 2))
    assert found is not None
    return found


def test_a_cloud_in_front_of_the_wall_is_off_by_its_distance(surface: TrueSurface) -> None:
    figures = compare_cloud(wall(z=DISTANCE - 0.03), surface).figures
    assert figures.accuracy_cm.median == pytest.approx(3, abs=0.15)
    assert figures.completeness_cm.median == pytest.approx(3, abs=0.3)
    assert figures.chamfer_cm == pytest.approx(3.1, abs=0.3)
    assert figures.within_cm(1) == Within(0, 0, 0)
    assert figures.within_cm(5).f_score > 0.99
    assert figures.normal_consistency > 0.98
    assert (figures.voxel_m, figures.true_voxel_m, figures.true_frames) == pytest.approx(
        (0.02, 0.01, 4)
    )


def test_what_is_missing_lowers_recall_and_what_is_wrong_precision(surface: TrueSurface) -> None:
    half = compare_cloud(wall(high=0.1), surface).figures.within_cm(5)
    assert half.precision == 1 and half.recall == pytest.approx(0.5, abs=0.05)
    swarm = wall(high=-0.26, z=1.5)  # a third as large as the wall itself
    figures = compare_cloud(torch.cat([wall(), swarm]), surface).figures
    assert figures.within_cm(5).precision == pytest.approx(0.75, abs=0.02)
    assert figures.within_cm(5).recall > 0.99
    assert figures.accuracy_cm.median < 1 < figures.accuracy_cm.mean
    assert figures.accuracy_cm.p90 == pytest.approx(50, abs=1)


def test_complete_is_what_holds_all_that_two_map_frames_see(surface: TrueSurface) -> None:
    assert 0.4 < float(surface.seen.double().mean()) < 0.6, "the part far away is no map frame's"
    alone = compare_cloud(wall(), surface).figures.within_cm(5)
    both = compare_cloud(
        torch.cat([wall(), wall(FAR_AWAY - 1, FAR_AWAY + 1)]), surface
    ).figures.within_cm(5)
    assert alone.recall > 0.99 and both.recall > 0.99
    assert both.precision > 0.99, "what other frames see there is right, though the map's do not"


def test_points_weigh_by_the_space_they_fill_and_not_by_their_number(surface: TrueSurface) -> None:
    heap = torch.tensor([[0.0, 0.0, 1.0]]).repeat(50_000, 1)
    figures = compare_cloud(torch.cat([wall(), heap]), surface).figures
    assert figures.within_cm(5).precision > 0.999
    assert figures.points == len(wall()) + 50_000 and figures.voxels < 10_000


def test_normals_across_the_wall_are_not_consistent(surface: TrueSurface) -> None:
    fins = torch.cartesian_prod(
        torch.arange(-1.0, 1.2, 0.2), torch.arange(-0.75, 0.75, 0.02), torch.arange(1.7, 2.3, 0.02)
    )
    assert compare_cloud(fins, surface).figures.normal_consistency < 0.35


def test_an_empty_cloud_and_one_point_have_figures(surface: TrueSurface) -> None:
    empty = compare_cloud(torch.empty(0, 3), surface).figures
    assert empty.within_cm(5) == Within(0, 0, 0)
    assert np.isnan(empty.chamfer_cm) and empty.voxels == 0
    one = compare_cloud(torch.tensor([[0.1, 0.0, DISTANCE], [np.nan, 0, 0]]), surface).figures
    assert one.within_cm(5).precision == 1 and one.voxels == 1


def test_voxels_are_finer_where_everything_is_near() -> None:
    near = true_surface(wall_sequence(0.4), (0, 1, 2))
    assert (
        near is not None
        and near.voxel == pytest.approx(0.008)
        and near.grain == pytest.approx(0.004)
    )


def test_there_is_no_surface_without_depth() -> None:
    assert true_surface(wall_sequence(with_depth=False), (0, 1, 2)) is None


def test_fusing_can_be_cancelled() -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        true_surface(wall_sequence(), (0, 1, 2), cancel)


def test_means_of_voxels_do_not_depend_on_how_points_come(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = VoxelMeans(0.1, torch.zeros(3), most=10_000)
    whole.add(points)
    monkeypatch.setattr("vggt3_ros.evaluation.voxels._MERGED_AT", 3000)
    pieces = VoxelMeans(0.1, torch.zeros(3), most=10_000)
    for piece in points.split(1500):
        pieces.add(piece)
    assert len(whole.means()) == 1000
    assert torch.allclose(whole.means(), pieces.means())
    cell = points[(points < 0.1).all(1)]
    assert torch.allclose(whole.means()[0], cell.mean(0))


def test_too_many_voxels_grow_instead() -> None:
    grid = VoxelMeans(0.01, torch.zeros(3), most=2000)
    for seed in range(3):
        grid.add(torch.rand(5000, 3, generator=torch.Generator().manual_seed(seed)))
    assert len(grid.means()) <= 2000 and 0.05 < grid.size < 0.2


def test_places_far_from_the_origin_keep_their_millimetres() -> None:
    far = torch.tensor([[500_000.0, 4_000_000.0, 100.0]], dtype=torch.float64)
    points = far + torch.tensor([[0.001, 0.001, 0.001], [0.5, 0.5, 0.5], [float("nan"), 0, 0]])
    assert torch.allclose(voxel_means(points, 0.1), points[:2], rtol=0, atol=1e-6)


def test_the_points_of_a_scene_are_compared_in_the_true_world(
    small_network: Any, tmp_path: Any
) -> None:
    sequence = arc_sequence()
    # in units of two metres
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    figures = evaluation.to_json()
    assert figures["cloud"]["accuracy_cm"]["median"] < 3  # pixels lie 3 cm apart there
    assert figures["cloud"]["within"]["5cm"]["precision"] > 0.99
    assert NETWORK not in figures and "cloud" in figures["definitions"]
    json.dumps(figures, allow_nan=False)
    total = aggregate([evaluation, evaluation])
    assert total.cloud == evaluation.figures.cloud is not None
    text = table([evaluation.figures, total])
    assert text.count("  cloud: median") == 2 and text.count("(voxels of 2.0 cm)") == 2


def test_without_depth_it_says_why_there_is_no_such_block(
    small_network: Any, tmp_path: Any
) -> None:
    sequence = arc_sequence(with_depth=False)
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    assert evaluation.figures.cloud is None and aggregate([evaluation]).cloud is None
    assert "note: clouds are not compared: no map frame has a true depth" in table(
        [evaluation.figures]
    )
    assert [path.name for path in write_pictures(evaluation, tmp_path)] == [
        "arc_trajectory.png",
        "arc_depth.png",
    ]
