"""Training views and drives keep clear of obstacles, overlap, and move in every direction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.room import RoomBatch, make_room, make_rooms
from vggt3_ros.worlds.trajectories import drive
from vggt3_ros.worlds.viewpoints import CLEARANCE, random_intrinsics, training_views

VIEWS = 6


@pytest.fixture(scope="module")
def rooms() -> RoomBatch:
    return make_rooms(range(64))


def pairs(poses: Tensor) -> tuple[Tensor, Tensor]:
    """Median distance (B,) of cameras and largest angle (B,) between two of them, degrees."""
    i, j = torch.triu_indices(poses.shape[1], poses.shape[1], 1)
    relative = se3_inverse(poses[:, i]) @ poses[:, j]
    distance = torch.linalg.vector_norm(relative[..., :3, 3], dim=-1).median(1).values
    return distance, torch.rad2deg(rotation_angle(relative[..., :3, :3])).amax(1)


@pytest.mark.parametrize("span", [0.0, 0.5, 1.0])
def test_training_cameras_stay_clear_of_everything(rooms: RoomBatch, span: float) -> None:
    poses = training_views(rooms, VIEWS, torch.Generator().manual_seed(1), span)
    assert poses.shape == (64, VIEWS, 4, 4) and poses.dtype == torch.float64
    assert clearance(rooms, poses[..., :3, 3]).min() >= CLEARANCE - 1e-4
    unit = poses[..., :3, :3] @ poses[..., :3, :3].transpose(-1, -2)
    torch.testing.assert_close(unit, torch.eye(3, dtype=torch.float64).expand_as(unit))


def test_span_widens_baselines_and_rotations(rooms: RoomBatch) -> None:
    narrow = pairs(training_views(rooms, VIEWS, torch.Generator().manual_seed(2), 0.0))
    wide = pairs(training_views(rooms, VIEWS, torch.Generator().manual_seed(2), 1.0, roaming=0.0))
    roaming = pairs(
        training_views(rooms, VIEWS, torch.Generator().manual_seed(2), 1.0, roaming=1.0)
    )
    assert wide[0].median() > 1.5 * narrow[0].median() and wide[1].median() > narrow[1].median() + 5
    assert roaming[0].median() > 1.3 * wide[0].median()
    assert narrow[1].median() < 30 and wide[1].median() > 15 and wide[0].median() > 0.2


def test_training_motion_is_balanced_between_the_axes(rooms: RoomBatch) -> None:
    poses = training_views(rooms, VIEWS, torch.Generator().manual_seed(4), 1.0)
    moved = (se3_inverse(poses[:, :1]) @ poses[:, 1:])[..., :3, 3]  # right, down, forward
    share = moved.abs().mean((0, 1))
    assert share.max() < 2.5 * share.min()


def test_training_views_follow_from_the_generator(rooms: RoomBatch) -> None:
    first, again, other = (
        training_views(rooms, 4, torch.Generator().manual_seed(s), 0.7) for s in (3, 3, 5)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_one_view_and_wrong_spans(rooms: RoomBatch) -> None:
    assert training_views(rooms, 1, torch.Generator().manual_seed(0), 0.5).shape == (64, 1, 4, 4)
    with pytest.raises(InputError, match="span"):
        training_views(rooms, 4, torch.Generator(), 1.5)


def test_intrinsics_are_of_45_to_110_degrees() -> None:
    intrinsics = random_intrinsics(200, 96, 128, torch.Generator().manual_seed(0))
    width = torch.rad2deg(2 * torch.atan(64 / intrinsics[:, 0, 0]))
    assert width.min() >= 45 and width.max() <= 110 and width.max() - width.min() > 60
    assert (intrinsics[:, 0, 2] == 64).all() and (intrinsics[:, 1, 2] == 48).all()
    assert ((intrinsics[:, 1, 1] / intrinsics[:, 0, 0] - 1).abs() < 0.021).all()


def test_drives_are_long_smooth_balanced_and_free() -> None:
    lengths, shares, turns = [], [], []
    for seed in range(900_000, 900_008):
        room = make_room(seed)
        poses = drive(room, 32, torch.Generator().manual_seed(seed))
        assert poses.shape == (32, 4, 4)
        assert clearance(room, poses[None, :, :3, 3]).min() >= CLEARANCE - 1e-4
        step = (se3_inverse(poses[:-1]) @ poses[1:])[:, :3, 3]
        lengths.append(torch.linalg.vector_norm(step, dim=-1).sum())
        shares.append(step.abs().mean(0))
        turn = torch.rad2deg(rotation_angle(poses[:-1, :3, :3].transpose(1, 2) @ poses[1:, :3, :3]))
        assert turn.max() < 45
        turns.append(turn.sum())
    share = torch.stack(shares).mean(0)
    assert torch.stack(lengths).median() > 3.0 and torch.stack(turns).median() > 60
    assert share.max() < 3 * share.min()


def test_a_drive_needs_one_room() -> None:
    with pytest.raises(InputError, match="one room"):
        drive(make_rooms([1, 2]), 4, torch.Generator())
