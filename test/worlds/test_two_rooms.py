"""Two rooms share one door, and a walk leads through it."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.room import make_room, make_rooms
from vggt3_ros.worlds.two_rooms import plan_two_rooms, walk_through_door

SEEDS = range(910_200, 910_206)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_begins_in_one_room_ends_in_the_other_and_stays_free(seed: int) -> None:
    rooms = make_rooms([seed], plan=plan_two_rooms)
    walk = walk_through_door(rooms, 24, torch.Generator().manual_seed(seed))
    position = walk[:, :3, 3]
    assert walk.shape == (24, 4, 4) and walk.dtype == torch.float64
    assert position[0, 0] < -0.8 and position[-1, 0] > 0.8
    assert clearance(rooms, position[None]).min() > 0.2
    step = torch.linalg.vector_norm(position[1:] - position[:-1], dim=-1)
    assert 1.5 < step.sum() and step.max() < 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rooms_see_each_other_through_the_door_alone(seed: int) -> None:
    rooms = make_rooms([seed], plan=plan_two_rooms)
    walk = walk_through_door(rooms, 49, torch.Generator().manual_seed(seed))
    door = walk[walk[:, 0, 3].abs().argmin(), :3, 3]
    across = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    before = door - 0.5 * across
    assert cast(rooms, before[None, None], across[None, None]) > 1.0
    for aside in (-0.75, 0.75):
        beside = before + torch.tensor([0.0, aside, 0.0], dtype=torch.float64)
        assert cast(rooms, beside[None, None], across[None, None]) < 0.6


def test_other_places_than_one_are_refused() -> None:
    with pytest.raises(InputError, match="frames >= 2"):
        walk_through_door(make_room(910_200), 1, torch.Generator())
