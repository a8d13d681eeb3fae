"""Top views look down along gravity, also where the world's axes say nothing about it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vggt3_ros.evaluation.top_view import plane_from_world, upward_direction
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle, se3

Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def walk(yaw_span_deg: float) -> Tensor:
    """Cameras that look 30 degrees down while they turn over yaw_span_deg; Z is up."""
    yaw = torch.deg2rad(torch.linspace(-yaw_span_deg / 2, yaw_span_deg / 2, 9, dtype=torch.float64))
    position = torch.stack([yaw, 0 * yaw, 1.5 + 0 * yaw], dim=-1)
    ahead = torch.stack([-yaw.sin(), yaw.cos(), 0 * yaw - math.tan(math.radians(30))], dim=-1)
    return look_at(position, position + ahead, Z)


def in_another_world(poses: Tensor) -> tuple[Tensor, Tensor]:
    rotation = rotation_from_axis_angle(torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64))
    return se3(rotation, torch.zeros(3, dtype=torch.float64)) @ poses, rotation @ Z


def angle_deg(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float(a @ b))))


def test_up_is_found_from_cameras_that_look_down_and_turn() -> None:
    poses, up = in_another_world(walk(90))
    assert angle_deg(upward_direction(poses), up) < 0.1


def test_without_turning_up_is_the_cameras_mean_up() -> None:
    poses, up = in_another_world(walk(0))
    # the pitch cannot be known
    assert angle_deg(upward_direction(poses), up) == pytest.approx(30, abs=0.1)


def test_a_world_with_z_up_keeps_its_coordinates() -> None:
    assert torch.equal(plane_from_world(walk(90), Z), torch.eye(3, dtype=torch.float64))


def test_otherwise_right_is_where_the_cameras_have_it() -> None:
    poses, up = in_another_world(walk(60))
    view_from_world = plane_from_world(poses, None)
    assert torch.allclose(
        view_from_world @ view_from_world.T, torch.eye(3, dtype=torch.float64), atol=1e-9
    )
    assert float(torch.linalg.det(view_from_world)) == pytest.approx(1)
    assert angle_deg(view_from_world[2], up) < 0.1
    sideways = view_from_world @ poses[:, :3, 0].mean(0)
    assert float(sideways[0]) > 0.9 * float(sideways.norm())


def test_cameras_all_around_still_give_a_plane() -> None:
    yaw = torch.arange(8, dtype=torch.float64) * math.pi / 4
    position = torch.zeros(8, 3, dtype=torch.float64)
    poses = look_at(position, torch.stack([yaw.cos(), yaw.sin(), 0 * yaw], dim=-1), Z)
    view_from_world = plane_from_world(poses, None)
    assert angle_deg(view_from_world[2], Z) < 0.1
    assert bool(torch.isfinite(view_from_world).all())
