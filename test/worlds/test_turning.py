"""A camera turns on the spot, and a group of cameras looks away from what others saw."""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.mapped_fraction import mapped_fractions
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.trajectories import drive
from vggt3_ros.worlds.turning import look_away, rotate_on_the_spot


@pytest.mark.parametrize("wobble", [0.0, 0.05])
def test_a_turn_goes_all_around_and_leaves_its_spot_by_the_wobble_alone(wobble: float) -> None:
    room = make_room(910_200)
    poses = rotate_on_the_spot(room, 24, torch.Generator().manual_seed(1), wobble)
    off = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    assert float(off.square().sum(1).mean().sqrt()) == pytest.approx(
        wobble, abs=0.4 * wobble + 1e-6
    )
    steps = rotation_angle(poses[:, :3, :3].transpose(1, 2) @ poses.roll(-1, 0)[:, :3, :3])
    assert (
        steps.rad2deg().min() > 12
        and steps.rad2deg().max() < 20
        and steps.sum() > 2 * math.pi - 0.1
    )
    assert clearance(room, poses[None, :, :3, 3]).min() > 0.2


def test_a_group_that_looks_away_shows_about_as_little_of_the_map_as_asked_for() -> None:
    room, lens = make_room(910_201), Lens.of(64, 48, 1.2)
    mapped = drive(room, 3, torch.Generator().manual_seed(1), 1.0)
    little, much = (look_away(room, mapped, lens, 4, share) for share in (0.1, 0.9))
    assert little.shape == (4, 4, 4)
    shares = [sum(mapped_fractions(room, mapped, poses, lens)) / 4 for poses in (little, much)]
    assert shares[0] < 0.35 < 0.6 < shares[1]
    assert clearance(room, little[None, :, :3, 3]).min() > 0.2


def test_a_turn_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="wobble -1"):
        rotate_on_the_spot(make_room(910_200), 4, torch.Generator(), -1)
