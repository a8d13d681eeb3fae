"""Odometry without errors is the truth; with errors it goes astray with the way, and carries are
not noticed.
"""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle, rotation_from_axis_angle, se3
from vggt3_ros.worlds.odometry import DriftingOdometry


def pose(x: float, yaw: float = 0.0) -> torch.Tensor:
    turn = torch.tensor([0.0, 0.0, yaw], dtype=torch.float64)
    return se3(rotation_from_axis_angle(turn), torch.tensor([x, 1.0, 0.5], dtype=torch.float64))


def test_without_errors_it_is_the_truth() -> None:
    odometry = DriftingOdometry(pose(0.0, 0.3))
    for step in range(20):
        odometry.move(pose(0.1 * step, 0.3 + 0.1 * step))
        torch.testing.assert_close(odometry.odom_from_base, pose(0.1 * step, 0.3 + 0.1 * step))


def test_scale_errors_grow_with_the_way_and_standing_adds_nothing() -> None:
    odometry = DriftingOdometry(pose(0.0), scale_error=0.1)
    for step in range(21):
        odometry.move(pose(0.1 * step))
        odometry.move(pose(0.1 * step))
    torch.testing.assert_close(odometry.odom_from_base, pose(2.2))


def test_turn_errors_bend_the_way() -> None:
    odometry = DriftingOdometry(pose(0.0), rotation_error=0.1)
    for step in range(201):
        odometry.move(pose(0.01 * step))
    assert rotation_angle(odometry.odom_from_base[:3, :3]) == pytest.approx(0.2)
    assert odometry.odom_from_base[1, 3] - 1 == pytest.approx((1 - math.cos(0.2)) / 0.1, rel=0.02)


def test_it_notices_no_carrying_but_its_own_jumps_show() -> None:
    odometry = DriftingOdometry(pose(0.0))
    odometry.carry(pose(3.0))
    moved = odometry.move(pose(3.5))
    assert moved[0, 3] == pytest.approx(0.5)
    torch.testing.assert_close(odometry.odom_from_base, pose(0.5))
    odometry.jump(1.0, 0.0)
    torch.testing.assert_close(odometry.odom_from_base, pose(1.5))


def test_errors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="odometry errors"):
        DriftingOdometry(pose(0.0), scale_error=math.nan)
