"""Rigid transforms keep lengths, invert, and survive their encodings."""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import (
    check_pose,
    chordal_mean,
    look_at,
    quaternion_from_rotation,
    rotation_angle,
    rotation_from_axis_angle,
    rotation_from_quaternion,
    se3,
    se3_inverse,
    transform_points,
)


def random_poses(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    axis_angle = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 2
    return se3(
        rotation_from_axis_angle(axis_angle),
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
    )


def test_inverse_undoes_a_transform() -> None:
    poses = random_poses(20)
    points = torch.randn(20, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(
        transform_points(se3_inverse(poses), transform_points(poses, points)), points
    )


def test_quaternions_round_trip_also_at_half_turns() -> None:
    half_turns = rotation_from_axis_angle(math.pi * torch.eye(3, dtype=torch.float64))
    rotations = torch.cat([random_poses(50)[:, :3, :3], half_turns])
    quaternions = quaternion_from_rotation(rotations)
    assert bool((quaternions[:, 3] >= 0).all())
    torch.testing.assert_close(rotation_from_quaternion(3.0 * quaternions), rotations)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.3, math.pi - 1e-6])
def test_angles_are_exact_also_when_tiny(angle) -> None:
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    assert float(rotation_angle(rotation_from_axis_angle(angle * axis))) == pytest.approx(
        angle, abs=1e-12
    )


def test_look_at_sees_its_target_ahead_and_up_at_the_top() -> None:
    position, up = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 0.0, 1.0])
    cam_from_world = se3_inverse(look_at(position, torch.tensor([4.0, 2.0, 0.5]), up))
    points = torch.tensor([[4.0, 2.0, 0.5], [4.0, 2.0, 1.5], [4.0, 1.0, 0.5]])
    expected = torch.tensor([[0.0, 0.0, 3.0], [0.0, -1.0, 3.0], [1.0, 0.0, 3.0]])
    torch.testing.assert_close(transform_points(cam_from_world, points), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [((0, 3, math.nan), "NaN"), ((0, 0, 2.0), "not a rotation"), ((3, 0, 1.0), "last row")],
)
def test_bad_poses_are_refused_with_their_name(change, words) -> None:
    row, column, value = change
    pose = torch.eye(4, dtype=torch.float64)
    check_pose(pose, "frame 7")
    pose[row, column] = value
    with pytest.raises(InputError, match=f"frame 7.*{words}"):
        check_pose(pose, "frame 7")


def test_the_chordal_mean_lies_in_the_middle_and_is_a_rotation() -> None:
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    middle = random_poses(1)[0, :3, :3]
    around = torch.stack(
        [middle @ rotation_from_axis_angle(angle * axis) for angle in (-0.7, 0.0, 0.7)]
    )
    torch.testing.assert_close(chordal_mean(around), middle)
    mirrored = torch.diag(torch.tensor([1.0, 1.0, -0.1], dtype=torch.float64))
    assert float(torch.linalg.det(chordal_mean(mirrored[None]))) == pytest.approx(1)
