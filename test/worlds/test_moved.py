"""Rooms in which a third of the furniture was moved are otherwise the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vggt3_ros.datasets.load import is_procedural
from vggt3_ros.errors import InputError
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.moved import (
    moved_pieces,
    on_moved_furniture,
    plan_moved_room,
    surface_distances,
)
from vggt3_ros.worlds.places import PLANNERS, Place
from vggt3_ros.worlds.plan import BOX, CYLINDER, ELLIPSOID, OBJECT
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.sequence import revisit

SEEDS = range(900_101, 900_121)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_third_of_the_furniture_stands_elsewhere_inside_the_room(seed: int) -> None:
    before = plan_room(seed)
    after = plan_moved_room(seed)
    pieces = np.unique(before.pieces[before.pieces > 0])
    moved = moved_pieces(seed, before)
    assert len(moved) == max(1, round(len(pieces) / 3))
    rows = np.isin(before.pieces, moved)
    assert (before.styles[before.pieces > 0] == OBJECT).all()
    for name in ("kinds", "styles", "materials", "halves", "lights", "pieces"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert np.array_equal(before.centres[~rows], after.centres[~rows])
    assert np.array_equal(before.rotations[~rows], after.rotations[~rows])
    assert (np.linalg.norm(before.centres - after.centres, axis=1)[rows] > 0.1).all()
    assert np.array_equal(before.centres[:, 2], after.centres[:, 2])
    assert (np.abs(after.centres[rows, :2]) <= after.halves[0, :2]).all()


def test_a_seed_moves_the_same_pieces_again_and_its_textures_go_with_them() -> None:
    first, again = plan_moved_room(900_101), plan_moved_room(900_101)
    assert np.array_equal(first.centres, again.centres)
    before = make_rooms([900_101])
    after = make_rooms([900_101], plan=plan_moved_room)
    looks = [11, 13, 14, 15, 16, 17, 18, 19]  # textures and colours
    assert torch.equal(before.faces[..., looks], after.faces[..., looks])
    assert not torch.equal(before.centres, after.centres)


def test_distances_to_surfaces_are_those_of_boxes_cylinders_and_balls() -> None:
    plan = plan_room(900_101)
    for kind in (BOX, CYLINDER, ELLIPSOID):
        rows = np.flatnonzero(plan.kinds == kind)[-1:]
        for row in rows:
            top = plan.centres[row] + plan.rotations[row][:, 2] * plan.halves[row, 2]
            beyond = top + 0.03 * plan.rotations[row][:, 2]
            distances = surface_distances(plan, np.stack([top, beyond]))[:, row]
            assert distances[0] < 1e-9 and 0.01 < distances[1] < 0.05


def test_points_of_moved_furniture_are_told_from_others() -> None:
    plan = plan_room(900_101)
    rows = np.isin(plan.pieces, moved_pieces(900_101, plan))
    surface = plan.centres + plan.rotations[..., 0] * plan.halves[:, :1]
    found = on_moved_furniture(900_101, surface)
    assert found[rows].mean() > 0.8 and found[~rows].mean() < 0.1


def test_the_place_has_a_name_for_commands() -> None:
    assert is_procedural("moved:3") and PLANNERS["moved"] is plan_moved_room
    assert Place("moved", 3).plan is plan_moved_room


def test_another_visit_has_views_of_its_own() -> None:
    pose = torch.eye(4, dtype=torch.float64)[None]
    pose[0, :3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[0, 2, 3] = 1.2
    depth = torch.full((1, 12, 16), 2.0)
    intrinsics = torch.tensor([[12.0, 0, 8], [0, 12, 6], [0, 0, 1]], dtype=torch.float64)
    images, poses = revisit(101, pose, depth, intrinsics, 2, 0)
    assert images.shape == (2, 12, 16, 3) and poses.shape == (2, 4, 4)
    again = revisit(101, pose, depth, intrinsics, 2, 0)[1]
    other = revisit(101, pose, depth, intrinsics, 2, 1)[1]
    assert torch.equal(poses, again) and not torch.equal(poses, other)
    with pytest.raises(InputError, match="1 frame or more"):
        revisit(101, pose, depth, intrinsics, 0, 0)
