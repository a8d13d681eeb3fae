"""Tours of all carriers keep clear, cover ground, and move as what carries the camera does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.worlds.places import place_planner
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.tours import CARRIERS, tours
from vggt3_ros.worlds.viewpoints import CLEARANCE

VIEWS = 10


@pytest.fixture(scope="module")
def places() -> RoomBatch:
    return make_rooms(range(48), plan=place_planner(0.3, 0.3))


@pytest.fixture(scope="module")
def poses(places: RoomBatch) -> Tensor:
    return tours(places, VIEWS, torch.Generator().manual_seed(1))


def carried(places: RoomBatch, monkeypatch: pytest.MonkeyPatch, carrier: str) -> Tensor:
    """Tours (B, VIEWS, 4, 4) by one carrier, none of whose views is moved aside."""
    draws = iter([torch.full((len(places),), (CARRIERS.index(carrier) + 0.5) / len(CARRIERS))])
    generator = torch.Generator().manual_seed(2)

    def rand(*shape: int) -> Tensor:
        first = next(draws, None)
        if first is not None:
            return first
        return (
            torch.ones(*shape)
            if shape == (len(places), VIEWS, 1)
            else torch.rand(*shape, generator=generator)
        )

    monkeypatch.setattr("vggt3_ros.worlds.tours.drawing", lambda *_: rand)
    return tours(places, VIEWS, generator)


def test_tours_keep_clear_of_everything_in_all_places(places: RoomBatch, poses: Tensor) -> None:
    assert poses.shape == (48, VIEWS, 4, 4) and poses.dtype == torch.float64
    assert clearance(places, poses[..., :3, 3]).min() >= CLEARANCE - 1e-4
    unit = poses[..., :3, :3] @ poses[..., :3, :3].transpose(-1, -2)
    torch.testing.assert_close(unit, torch.eye(3, dtype=torch.float64).expand_as(unit))


def test_tours_cover_metres_and_turn(poses: Tensor) -> None:
    extent = torch.linalg.vector_norm(poses[..., :3, 3].amax(1) - poses[..., :3, 3].amin(1), dim=-1)
    assert extent.median() > 2.0 and (extent > 1.0).float().mean() > 0.9 and extent.max() < 14
    turn = rotation_angle(poses[:, :1, :3, :3].transpose(-1, -2) @ poses[:, 1:, :3, :3]).amax(1)
    assert torch.rad2deg(turn).median() > 30


def test_tours_follow_from_the_generator(places: RoomBatch, poses: Tensor) -> None:
    assert torch.equal(tours(places, VIEWS, torch.Generator().manual_seed(1)), poses)
    assert not torch.equal(tours(places, VIEWS, torch.Generator().manual_seed(2)), poses)


def test_a_robot_keeps_its_height_and_hardly_rolls(places: RoomBatch, monkeypatch) -> None:
    poses = carried(places, monkeypatch, "robot")
    height = poses[..., 2, 3]
    assert (height - height[:, :1]).abs().max() < 0.05 and height.max() < 1.3
    assert poses[..., 2, 0].abs().max() < 0.03  # the image's right stays level


def test_a_hand_is_at_eye_level_and_a_drone_changes_height_and_looks_down(
    places: RoomBatch, monkeypatch
) -> None:
    hand, drone = (carried(places, monkeypatch, carrier) for carrier in ("hand", "drone"))
    assert hand[..., 2, 3].min() > 1.1 and hand[..., 2, 3].max() < 1.9
    assert hand[..., 2, 0].abs().amax(1).median() > 0.05  # it rolls
    rise = drone[..., 2, 3].amax(1) - drone[..., 2, 3].amin(1)
    assert rise.median() > 0.3 and drone[..., 2, 2].median() < -0.15 < hand[..., 2, 2].median()


def test_views_look_at_something_a_little_away(places: RoomBatch, poses: Tensor) -> None:
    reach = cast(places, poses[..., :3, 3], poses[..., :3, 2])
    assert (reach > 0.5).float().mean() > 0.9


def test_impossible_tours_are_refused(places: RoomBatch) -> None:
    with pytest.raises(InputError, match="tours need 2 views or more, got 1"):
        tours(places, 1, torch.Generator())
