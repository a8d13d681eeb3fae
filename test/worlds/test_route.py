"""A second drive keeps beside the mapped path, out of every obstacle, and looks at what was
mapped.
"""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_room, make_rooms
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.sequence import seen_fraction
from vggt3_ros.worlds.trajectories import drive

SEEDS = range(900_000, 900_006)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_route_is_beside_the_mapped_path_free_and_shows_what_was_mapped(seed: int) -> None:
    room = make_room(seed)
    mapped = drive(room, 24, torch.Generator().manual_seed(seed))
    route = unseen_route(room, mapped, 60, torch.Generator().manual_seed(seed))
    assert route.shape == (60, 4, 4) and route.dtype == torch.float64
    away = torch.cdist(route[:, :3, 3], mapped[:, :3, 3]).amin(1)
    assert (away > 0.28).double().mean() > 0.9 and 0.28 < away.median() < 0.6
    assert clearance(room, route[None, :, :3, 3]).min() > 0.15

    step = torch.linalg.vector_norm(route[1:, :3, 3] - route[:-1, :3, 3], dim=-1)
    turn = torch.rad2deg(rotation_angle(route[:-1, :3, :3].transpose(1, 2) @ route[1:, :3, :3]))
    assert step.max() < 2.5 * step.mean() and turn.max() < 15

    intrinsics = intrinsics_matrix(48.0, 48.0, 32.0, 24.0)
    depth = render(room, mapped[None], intrinsics, 48, 64).depth[0]
    seen = seen_fraction(room, route, mapped, depth, intrinsics)
    assert seen.mean() > 0.75 and seen.min() > 0.4


def test_the_gaze_is_near_that_of_the_mapped_camera_beside_it() -> None:
    room = make_room(900_001)
    mapped = drive(room, 24, torch.Generator().manual_seed(1))
    route = unseen_route(room, mapped, len(mapped), torch.Generator().manual_seed(1))
    angle = torch.rad2deg(rotation_angle(route[:, :3, :3].transpose(1, 2) @ mapped[:, :3, :3]))
    assert 2 < angle.median() < 20 and angle.max() < 30


def test_a_camera_that_only_turned_has_a_route_too_and_it_stays_free() -> None:
    room = make_room(900_003)
    mapped = drive(room, 6, torch.Generator().manual_seed(3), length=0.3)
    mapped[:, :3, 3] = mapped[0, :3, 3]
    route = unseen_route(room, mapped, 10, torch.Generator().manual_seed(3))
    assert bool(route.isfinite().all()) and clearance(room, route[None, :, :3, 3]).min() > 0.15


def test_a_route_follows_from_the_generator() -> None:
    room = make_room(900_002)
    mapped = drive(room, 8, torch.Generator().manual_seed(2), length=2.0)
    first, again, other = (
        unseen_route(room, mapped, 12, torch.Generator().manual_seed(s)) for s in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_route_needs_one_room_and_a_path() -> None:
    with pytest.raises(InputError, match="two mapped poses"):
        unseen_route(make_room(900_000), torch.eye(4)[None], 4, torch.Generator())
    with pytest.raises(InputError, match="2 rooms"):
        unseen_route(make_rooms([1, 2]), torch.eye(4).repeat(3, 1, 1), 4, torch.Generator())
