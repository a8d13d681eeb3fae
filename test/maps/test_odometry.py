"""Whether odometry has the frames where they were found."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3
from vggt3_ros.maps.odometry import places

LEFT = rotation_from_axis_angle(torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64))
MAP_FROM_ODOMETRY = se3(LEFT, torch.tensor([5.0, -3.0, 0.2], dtype=torch.float64))


def drive(count: int, drift: float = 0.0) -> list[Tensor]:
    """Poses half a metre apart, turning; with `drift` too long by that fraction."""
    angles = torch.arange(count, dtype=torch.float64) * 0.1
    poses = []
    for number, angle in enumerate(angles):
        axis = torch.tensor([0.0, 0.0, float(angle)], dtype=torch.float64)
        where = torch.tensor([0.5 * number * (1 + drift), 0.0, 0.0], dtype=torch.float64)
        poses.append(se3(rotation_from_axis_angle(axis), where))
    return poses


def test_frames_found_where_they_are_are_one_group_in_spite_of_drift() -> None:
    known = {number: MAP_FROM_ODOMETRY @ pose for number, pose in enumerate(drive(20))}
    assert places(known, drive(20, drift=0.05)) == [list(range(20))]


def test_frames_found_in_a_place_that_looks_alike_are_a_group_of_their_own() -> None:
    known = {number: MAP_FROM_ODOMETRY @ pose for number, pose in enumerate(drive(12))}
    for number in (8, 9, 11):
        known[number] = known[number].clone()
        known[number][0, 3] -= 5.0
    assert places(known, drive(12)) == [[0, 1, 2, 3, 4, 5, 6, 7, 10], [8, 9, 11]]


def test_a_place_of_the_same_shape_turned_is_another() -> None:
    known = {number: MAP_FROM_ODOMETRY @ pose for number, pose in enumerate(drive(4))}
    about = rotation_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    known[3] = known[3] @ se3(about, torch.zeros(3, dtype=torch.float64))
    assert places(known, drive(4)) == [[0, 1, 2], [3]]


def test_frames_without_odometry_are_in_no_group() -> None:
    poses = drive(4)
    known = {number: MAP_FROM_ODOMETRY @ pose for number, pose in enumerate(poses) if number != 1}
    assert places(known, [None, *poses[1:3], None]) == [[2]]
    assert places(known, [None] * 4) == []
