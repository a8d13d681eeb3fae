"""A steady motion passes the poses that it was given, at the pace that was asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import check_pose, rotation_angle, rotation_from_axis_angle, se3
from vggt3_ros.worlds.motion import pass_through, steady_motion


def poses(count: int, metres: float, radians: float) -> Tensor:
    """Along x, turning about z, beyond a full turn."""
    number = torch.arange(count, dtype=torch.float64)
    zero = torch.zeros_like(number)
    turned = rotation_from_axis_angle(torch.stack([zero, zero, radians * number], -1))
    return se3(turned, torch.stack([metres * number, zero, zero], -1))


def test_a_curve_passes_all_poses_also_beyond_a_full_turn() -> None:
    given = poses(12, 0.2, 0.8)
    times = torch.arange(12, dtype=torch.float64) ** 1.2
    torch.testing.assert_close(pass_through(given, times, times), given)
    between = pass_through(given, times, (times[:-1] + times[1:]) / 2)
    for pose in between:
        check_pose(pose, "between")
    assert rotation_angle(given[:-1, :3, :3].transpose(1, 2) @ between[:, :3, :3]).max() < 0.7


@pytest.mark.parametrize(("metres", "radians"), [(0.25, 0.01), (0.01, 0.4), (0.25, 0.2)])
def test_speed_and_turning_are_about_what_was_asked_for(metres: float, radians: float) -> None:
    motion = steady_motion(poses(10, metres, radians), rate=20, speed=0.4, turn_speed=0.6)
    speed = 20 * torch.linalg.vector_norm(motion[1:, :3, 3] - motion[:-1, :3, 3], dim=-1)
    turning = 20 * rotation_angle(motion[:-1, :3, :3].transpose(1, 2) @ motion[1:, :3, :3])
    assert speed.max() < 0.4 * 1.4 and turning.max() < 0.6 * 1.4
    assert speed.median() > 0.4 * 0.9 or turning.median() > 0.6 * 0.9
    assert speed[0] < 0.3 * speed.max() and speed[-1] < 0.3 * speed.max(), (
        "it starts and ends at rest"
    )
    torch.testing.assert_close(motion[[0, -1]], poses(10, metres, radians)[[0, -1]])


def test_who_stands_still_moves_nowhere() -> None:
    standing = poses(4, 0.0, 0.0)
    assert torch.equal(steady_motion(standing, 10, 0.4, 0.6)[0], standing[0])
    assert steady_motion(standing[:1], 10, 0.4, 0.6).shape == (1, 4, 4)


def test_a_pace_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"speed 0"):
        steady_motion(poses(3, 0.1, 0.1), 10, 0.0, math.pi)
