"""How much of a view the map saw, in a scene that one can draw: a wall at x = 2 m."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vggt3_ros.evaluation.coverage import View, coverage, query_coverage
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import look_at

from .oracle import arc_sequence

# 80 x 60 pixels: at 2 m a view is 0.8 m wide and 0.6 m high
CAMERA = intrinsics_matrix(200, 200, 39.5, 29.5)


def facing_the_wall(y: float, distance: float = 2.0) -> View:
    """A camera at (2 - distance, y) that looks along x."""
    position = torch.tensor([2 - distance, y, 0], dtype=torch.float64)
    ahead = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    up = torch.tensor([0, 0, 1.0], dtype=torch.float64)
    return View(
        look_at(position, position + ahead, up),
        CAMERA,
        torch.full((60, 80), distance, dtype=torch.float64),
    )


def share(query: View, *map_views: View) -> float:
    return coverage([query], map_views)[0]


def test_two_map_frames_are_needed() -> None:
    query = facing_the_wall(0)
    assert share(query, facing_the_wall(0), facing_the_wall(0)) == pytest.approx(1, abs=0.02)
    assert share(query, facing_the_wall(0)) == 0


def test_a_view_moved_by_half_its_width_is_half_covered() -> None:
    assert share(facing_the_wall(0.4), facing_the_wall(0), facing_the_wall(0)) == pytest.approx(
        0.5, abs=0.03
    )


def test_what_something_hides_or_what_lies_elsewhere_is_not_covered() -> None:
    query, behind_a_board = facing_the_wall(0), facing_the_wall(0)
    behind_a_board.depth.fill_(0.5)
    assert share(query, behind_a_board, behind_a_board) == 0
    away = facing_the_wall(0)
    away.world_from_cam[:3, :3] = away.world_from_cam[:3, :3] @ torch.diag(
        torch.tensor([-1.0, 1, -1]).double()
    )
    assert share(query, away, away) == 0


def test_another_side_is_not_covered() -> None:
    def beside(angle: float) -> View:
        """A speck at the origin, seen from an angle."""
        position = 3 * torch.tensor([math.cos(angle), math.sin(angle), 0], dtype=torch.float64)
        up = torch.tensor([0, 0, 1.0], dtype=torch.float64)
        depth: Tensor = torch.zeros(60, 80, dtype=torch.float64)
        depth[28:32, 38:42] = 3.0
        return View(look_at(position, torch.zeros(3, dtype=torch.float64), up), CAMERA, depth)

    assert share(beside(0), beside(0.6), beside(0.6)) > 0.9
    assert share(beside(0), beside(1.0), beside(1.0)) == 0


def test_without_depth_nothing_is_known() -> None:
    assert query_coverage(arc_sequence(with_depth=False), [0, 2, 4], [1, 3]) == [None, None]
    assert len(query_coverage(arc_sequence(), [0, 2, 4], [1, 3])) == 2
