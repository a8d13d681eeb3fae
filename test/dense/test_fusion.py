"""The cloud of all keyframes: one point per voxel, the surer pixels count more, and only what is
asked for is in it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.fusion import fused_cloud
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.shape import camera_points
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import transform_points

from .scenes import keyframes, row, wall


@pytest.fixture(scope="module")
def scene() -> tuple[Keyframes, torch.Tensor]:
    return keyframes([wall(3.05)], row(3))


def known(
    depth: torch.Tensor, provenance: torch.Tensor | int, sigma: torch.Tensor | float
) -> DenseDepth:
    kinds = torch.zeros_like(depth, dtype=torch.uint8) + torch.as_tensor(
        provenance, dtype=torch.uint8
    )
    return DenseDepth(
        depth, kinds, kinds, torch.zeros_like(depth) + sigma, torch.zeros(0, 4), torch.zeros(0)
    )


def test_points_lie_on_the_wall_once_per_voxel_with_its_colours(scene) -> None:
    keyframe, depth = scene
    cloud = fused_cloud(known(depth, Provenance.AGREED, 0.02), keyframe, voxel_m=0.1)
    assert float((cloud.points[:, 1] - 3.05).abs().max()) < 1e-4
    cells = torch.floor(cloud.points[:, [0, 2]] / 0.1)
    assert len(torch.unique(cells, dim=0)) == len(cloud)
    assert torch.allclose(cloud.confidence, torch.tensor(0.5))
    expected = wall(3.05).colour(cloud.points[:, [0, 2]].double())
    assert float((cloud.colors.double() / 255 - expected).abs().mean()) < 0.06


def test_surer_pixels_count_more(scene) -> None:
    keyframe, depth = scene
    wrong = depth.clone()
    wrong[1] *= 1.02
    sigma = torch.full_like(depth, 0.01)
    sigma[1] = 0.1
    cloud = fused_cloud(known(wrong, Provenance.AGREED, sigma), keyframe, voxel_m=0.2)
    shared = cloud.points[:, 0].abs() < 1.0
    assert float((cloud.points[shared, 1] - 3.05).abs().median()) < 0.003


def test_only_what_is_asked_for_is_taken(scene) -> None:
    keyframe, depth = scene
    kinds = torch.full_like(depth, int(Provenance.FAR))
    kinds[0], kinds[1] = int(Provenance.AGREED), int(Provenance.NONE)
    mixed = known(torch.where(kinds == Provenance.NONE, 0.0, depth), kinds, 0.02)
    default, every = (
        fused_cloud(mixed, keyframe, 0.05),
        fused_cloud(mixed, keyframe, 0.05, list(Provenance)),
    )
    assert 0 < len(default) < len(every)
    assert len(fused_cloud(mixed, keyframe, 0.05, [Provenance.PLANE])) == 0


def test_far_from_the_origin_points_stay_as_exact(scene) -> None:
    keyframe, depth = scene
    away = torch.tensor([500_000.0, 5_400_000.0, 0.0], dtype=torch.float64)
    poses = keyframe.world_from_cam.double().clone()
    poses[:, :3, 3] += away
    cloud = fused_cloud(
        known(depth, Provenance.AGREED, 0.02), replace(keyframe, world_from_cam=poses), voxel_m=0.1
    )
    assert float(((cloud.points - away)[:, 1] - 3.05).abs().max()) < 1e-4


def test_wrong_voxels_and_keyframes_are_refused(scene) -> None:
    keyframe, depth = scene
    with pytest.raises(InputError, match="voxel_m must be above 0, got 0"):
        fused_cloud(known(depth, Provenance.AGREED, 0.02), keyframe, voxel_m=0)
    with pytest.raises(InputError, match="do not belong together"):
        fused_cloud(known(depth[:2], Provenance.AGREED, 0.02), keyframe)


def test_points_that_most_who_look_at_them_see_through_are_left_out(scene) -> None:
    """What one keyframe has half a metre before the wall, which the two others see."""
    keyframe, depth = scene
    floating = depth.clone()
    floating[1, 20:30, 30:50] -= 0.5
    assert (
        float(fused_cloud(known(depth, Provenance.AGREED, 0.02), keyframe).points[:, 1].min()) > 3.0
    )
    cloud = fused_cloud(known(floating, Provenance.AGREED, 0.02), keyframe)
    assert float(cloud.points[:, 1].min()) > 3.0
    alone = fused_cloud(
        known(torch.where(depth == depth[1], floating, 0.0), Provenance.AGREED, 0.02), keyframe
    )
    assert float(alone.points[:, 1].min()) < 2.6


def test_depths_that_differ_everywhere_by_as_much_leave_a_cloud(scene) -> None:
    """By 1.1 % (standard deviation), as where the poses are those of a sensor; what is seen through
    stays out.
    """
    keyframe, depth = scene
    generator = torch.Generator().manual_seed(0)
    noisy = depth * (1 + 0.008 * torch.randn(depth.shape, generator=generator))
    noisy[1, 20:30, 30:50] -= 0.5
    points = camera_points(noisy, keyframe.intrinsics).flatten(1, 2).double()
    cells = torch.floor(
        transform_points(keyframe.world_from_cam.double(), points).reshape(-1, 3) / 0.02
    )
    cloud = fused_cloud(known(noisy, Provenance.AGREED, 0.02), keyframe)
    assert len(cloud) > 0.9 * len(torch.unique(cells, dim=0))
    assert float(cloud.points[:, 1].min()) > 2.9
