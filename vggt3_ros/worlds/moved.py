"""Rooms in which somebody has moved furniture: as planned, but for some pieces that stand elsewhere
(numpy, seeded).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.plan import CYLINDER, ELLIPSOID, WALL, RoomPlan, yaw_matrix

SHARE = 1 / 3  # of the pieces, those that are moved
_MOVED = 6  # stream of random numbers of a seed, beside those of other places
_AWAY = 0.7  # metres at least between where a piece stood and where it stands
_TRIES = 64


def plan_moved_room(seed: int) -> RoomPlan:
    """The plan of room `seed` after a third of its furniture was moved: walls, pictures, lights,
    textures and all other pieces are those of plan_room.
    """
    plan = plan_room(seed)
    rng = np.random.default_rng([seed, _MOVED])
    moved = moved_pieces(seed, plan)
    centres = plan.centres.copy()
    rotations = plan.rotations.copy()
    for piece in moved:
        rows = np.flatnonzero(plan.pieces == piece)
        turn, base, spot = _new_place(plan, rows, rng)
        centres[rows] = (centres[rows] - base) @ turn.T + spot
        rotations[rows] = turn @ rotations[rows]
    return replace(plan, centres=centres, rotations=rotations)


def moved_pieces(seed: int, plan: RoomPlan) -> NDArray[np.int64]:
    """Numbers of the pieces of room `seed` that plan_moved_room moves, at least one if there is
    any.
    """
    pieces = np.unique(plan.pieces[plan.pieces > 0])
    count = min(len(pieces), max(1, round(SHARE * len(pieces))))
    rng = np.random.default_rng([seed, _MOVED, 1])
    chosen: NDArray[np.int64] = np.sort(rng.permutation(pieces)[:count])
    return chosen


def on_moved_furniture(seed: int, points: Floats) -> Mask:
    """Which of points (n, 3), metres, lie on what plan_moved_room moves, before it does: nearer to
    its surface than to any other.
    """
    plan = plan_room(seed)
    distances = surface_distances(plan, points)
    moved = np.isin(plan.pieces, moved_pieces(seed, plan))
    on_moved: Mask = moved[distances.argmin(1)]
    return on_moved


def surface_distances(plan: RoomPlan, points: Floats) -> Floats:
    """How far points (n, 3) are from the surface of each primitive: (n, P); from ellipsoids, about
    so far.
    """
    local = np.einsum("pij,npi->npj", plan.rotations, points[:, None] - plan.centres)
    gap = np.abs(local) - plan.halves
    cylinder = plan.kinds == CYLINDER
    across = np.linalg.norm(local[..., :2], axis=2) - plan.halves[:, 0]
    gap[:, cylinder, 0] = across[:, cylinder]
    gap[:, cylinder, 1] = -np.inf
    distances = np.linalg.norm(np.maximum(gap, 0), axis=2) + np.minimum(gap.max(2), 0)
    ellipsoid = plan.kinds == ELLIPSOID
    radius = np.linalg.norm(local / plan.halves, axis=2) - 1
    distances[:, ellipsoid] = (radius * plan.halves.min(1))[:, ellipsoid]
    result: Floats = np.abs(distances)
    return result


def _new_place(
    plan: RoomPlan, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """How a piece is turned (3, 3) about its middle on the floor (3,), and where that is then (3,):
    inside the room, away from where it was, and in no inner wall if there is such a place.
    """
    reach = np.linalg.norm(plan.halves[rows, :2], axis=1)
    low = (plan.centres[rows, :2] - reach[:, None]).min(0)
    high = (plan.centres[rows, :2] + reach[:, None]).max(0)
    base = np.array([*(low + high) / 2, 0.0])
    offsets = np.linalg.norm(plan.centres[rows, :2] - base[:2], axis=1)
    radius = float((offsets + reach).max())
    limit = np.maximum(plan.halves[0, :2] - radius, 0.1)
    turn = yaw_matrix(rng.uniform(0.5, 2 * np.pi - 0.5))
    spots = rng.uniform(-1, 1, (_TRIES, 2)) * limit
    away = np.linalg.norm(spots - base[:2], axis=1)
    suits = 2.0 * (away > _AWAY) + ~_in_walls(plan, spots, radius)
    spot = spots[int(suits.argmax())]
    return turn, base, np.array([*spot, 0.0])


def _in_walls(plan: RoomPlan, spots: Floats, radius: float) -> Mask:
    """Which of spots (n, 2) lie within a radius of an inner wall or a pillar."""
    inner = np.flatnonzero(plan.styles == WALL)
    inner = inner[inner > 0]
    gap = np.abs(spots[:, None] - plan.centres[inner, :2]) - plan.halves[inner, :2]
    near: Mask = (np.linalg.norm(np.maximum(gap, 0), axis=2) < radius).any(1)
    return near
