"""Exact surfaces of a room as points."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.worlds.probe import cast
from vggt3_ros.worlds.room import RoomBatch, make_room
from vggt3_ros.worlds.solids import in_sight, inside, surface_points

SEED = 900_001


@pytest.fixture(scope="module")
def room() -> RoomBatch:
    return make_room(SEED)


def test_points_lie_on_surfaces_between_the_heights(room: RoomBatch) -> None:
    points = surface_points(room, 0.1, 0.2, 1.0)
    assert len(points) > 1000
    assert float(points[:, 2].min()) >= 0.2 and float(points[:, 2].max()) < 1.0
    step = torch.randn(len(points), 3, generator=torch.Generator().manual_seed(0)).double()
    step *= 0.004 / step.norm(dim=1, keepdim=True)
    differ = inside(room, points + step) != inside(room, points - step)
    assert float(differ.double().mean()) > 0.8  # all but edges have something on one side


def test_points_hit_by_rays_are_in_sight_and_those_behind_are_not(room: RoomBatch) -> None:
    eye = torch.tensor([0.0, 0.0, 1.0]).double()
    turns = torch.arange(60) * (2 * torch.pi / 60)
    ways = torch.stack([turns.cos(), turns.sin(), torch.full((60,), -0.2)], dim=1).double()
    assert not bool(inside(room, eye[None]))
    reached = cast(room, eye.expand(60, 3)[None], ways[None])[0].double()[:, None]
    assert bool(in_sight(room, eye + reached * ways, eye).all())
    assert not bool(in_sight(room, eye + (reached + 0.02) * ways, eye).any())
    assert bool(inside(room, eye + (reached + 0.005) * ways).all())


def test_what_lies_outside_the_shell_is_solid(room: RoomBatch) -> None:
    corner = room.bounds[0, 1].double()
    assert bool(inside(room, (corner + 0.1)[None]))
    assert len(inside(room, torch.zeros(0, 3))) == 0
