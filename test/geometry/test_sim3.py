"""Similarities are found from positions, from poses, and in spite of outliers; what cannot be
determined is refused.
"""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3, se3_inverse
from vggt3_ros.geometry.sim3 import (
    Sim3,
    fit_poses,
    fit_roughly,
    robust_umeyama,
    spread_ratio,
    umeyama,
)

from .test_se3 import random_poses

TRUTH = Sim3(
    2.5,
    rotation_from_axis_angle(torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)),
    torch.tensor([4.0, -1.0, 0.5], dtype=torch.float64),
)


def assert_same(found: Sim3, expected: Sim3) -> None:
    assert found.scale == pytest.approx(expected.scale, rel=1e-9)
    torch.testing.assert_close(found.matrix(), expected.matrix())


def test_umeyama_recovers_a_similarity() -> None:
    points = torch.randn(10, 3, dtype=torch.float64)
    assert_same(umeyama(points, TRUTH.points(points)), TRUTH)


def test_inverse_and_json_round_trip() -> None:
    points = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(TRUTH.inverse().points(TRUTH.points(points)), points)
    assert_same(Sim3.from_dict(TRUTH.to_dict()), TRUTH)


def test_poses_stay_rigid_and_keep_seeing_the_same() -> None:
    poses, point = random_poses(6), torch.randn(3, dtype=torch.float64)
    moved = TRUTH.poses(poses)
    before = (se3_inverse(poses) @ torch.cat([point, torch.ones(1)]).double())[:, :3]
    after = (se3_inverse(moved) @ torch.cat([TRUTH.points(point), torch.ones(1)]).double())[:, :3]
    torch.testing.assert_close(after, TRUTH.scale * before)


def test_poses_on_one_line_determine_a_similarity_but_points_do_not() -> None:
    poses = random_poses(6)
    poses[:, :3, 3] = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None] * torch.tensor(
        [1.0, 2.0, 3.0]
    )
    assert_same(fit_poses(poses, TRUTH.poses(poses)), TRUTH)
    with pytest.raises(InputError, match="one line"):
        umeyama(poses[:, :3, 3], TRUTH.points(poses[:, :3, 3]))


def test_outliers_are_refused_and_the_residual_is_that_of_the_others() -> None:
    source = random_poses(30)
    target = TRUTH.poses(source)
    generator = torch.Generator().manual_seed(3)
    target[:, :3, 3] += 0.01 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    target[:9, :3, 3] += 3.0
    fit = robust_umeyama(source, target)
    assert not bool(fit.inliers[:9].any()) and int(fit.inliers.sum()) >= 19
    assert fit.target_from_source.scale == pytest.approx(TRUTH.scale, rel=0.01)
    assert 0.005 < fit.residual < 0.03


def test_wrong_orientations_are_outliers_too() -> None:
    source = random_poses(12)
    target = TRUTH.poses(source)
    target[4, :3, :3] = target[4, :3, :3] @ rotation_from_axis_angle(
        torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    )
    assert robust_umeyama(source, target).inliers.tolist() == [i != 4 for i in range(12)]


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_poses_are_refused(count) -> None:
    with pytest.raises(InputError, match="at least 3"):
        robust_umeyama(random_poses(count), random_poses(count))


def test_pure_rotation_is_refused() -> None:
    source = random_poses(8)
    target = se3(source[:, :3, :3], torch.ones(8, 3, dtype=torch.float64))
    with pytest.raises(InputError, match="do not move"):
        robust_umeyama(source, target)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.003, 0.01])
def test_a_robot_that_mostly_stood_at_one_place_still_has_a_scale(noise) -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        source = random_poses(20)
        source[:15, :3, 3] = source[0, :3, 3]
        target = TRUTH.poses(source)
        for poses, unit in ((source, 1.0), (target, TRUTH.scale)):
            poses[:, :3, 3] += (
                unit * noise * torch.randn(20, 3, generator=generator, dtype=torch.float64)
            )
        target[18:, :3, 3] += 4.0
        fit = robust_umeyama(source, target)
        assert fit.target_from_source.scale == pytest.approx(TRUTH.scale, rel=1e-9 + 4 * noise)
        assert not bool(fit.inliers[18:].any())


def test_poses_that_do_not_move_alike_still_lie_about_the_same_place() -> None:
    poses = random_poses(6)
    assert_same(fit_roughly(poses, TRUTH.poses(poses)), TRUTH)
    mirrored = poses.clone()
    mirrored[:, :3, 3] *= -1
    with pytest.raises(InputError, match="do not move alike"):
        fit_poses(poses, mirrored)
    moved = fit_roughly(poses, mirrored).poses(poses)
    torch.testing.assert_close(moved[:, :3, 3].mean(0), mirrored[:, :3, 3].mean(0))
    assert spread_ratio(moved, mirrored) == pytest.approx(1.0)


def test_poses_at_one_place_have_no_spread_to_compare() -> None:
    poses = random_poses(3)
    poses[:, :3, 3] = 0
    assert spread_ratio(poses, random_poses(3)) == 1.0


def test_a_product_does_what_its_factors_do_one_after_the_other() -> None:
    dice = torch.Generator().manual_seed(4)
    first, second = (
        Sim3(
            scale,
            rotation_from_axis_angle(torch.randn(3, generator=dice, dtype=torch.float64)),
            torch.randn(3, generator=dice, dtype=torch.float64),
        )
        for scale in (0.5, 3.0)
    )
    points = torch.randn(5, 3, generator=dice, dtype=torch.float64)
    torch.testing.assert_close((first @ second).points(points), first.points(second.points(points)))
    torch.testing.assert_close((first @ first.inverse()).points(points), points)
