"""Two furnished rooms with a door between them, and a walk from one into the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import look_at
from vggt3_ros.worlds.furnish import add_loose, add_picture, add_rounded, add_stack
from vggt3_ros.worlds.light import draw_light
from vggt3_ros.worlds.plan import BOX, WALL, Builder, RoomPlan
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.trajectories import follow_open_space, smooth
from vggt3_ros.worlds.viewpoints import CLEARANCE, drawing, free_points, pull_back

_PLAN = 5  # stream of random numbers of a seed, beside those of other places
# half thickness of the wall, half width and half height of the door
_DOOR = np.array([0.06, 0.45, 1.02])
_KEPT_FREE = 1.3  # metres around the door in which nothing stands
_EYE = 1.2  # metres above the floor
_BEFORE = 0.8  # metres between the door and the points where the walk turns to it
_STEP = 0.05  # metres between samples of the walk
_SPOTS = 256


def plan_two_rooms(seed: int) -> RoomPlan:
    """The plan of the two rooms of `seed`; the door is in the plane x = 0."""
    build, door_y = _shell(seed)
    _partition(build, door_y)
    walls = len(build.rows)
    for _ in range(build.rng.integers(6, 10)):
        add_stack(build)
    for _ in range(build.rng.integers(2, 5)):
        add_rounded(build)
    for _ in range(build.rng.integers(1, 4)):
        add_loose(build)
    for _ in range(build.rng.integers(10, 16)):
        add_picture(build)
    things = [row for row in build.rows[walls:] if _is_aside(row[3], row[4], door_y)]
    build.rows[walls:] = things
    return build.plan(*draw_light(build.rng, build.half))


@torch.no_grad()
def walk_through_door(rooms: RoomBatch, frames: int, generator: torch.Generator) -> Tensor:
    """world_from_cam (frames, 4, 4) float64 of a walk through the door between the rooms of
    plan_two_rooms.

    Evenly spaced, at eye level, looking where it goes. Raises InputError unless `rooms` is one
    place and frames >= 2.
    """
    if len(rooms) != 1 or frames < 2:
        raise InputError(
            f"walk_through_door needs one place and frames >= 2; got {len(rooms)}, {frames}"
        )
    rand = drawing(generator, rooms.device)
    spots = free_points(rooms, _SPOTS, rand)[0]
    spots[:, 2] = _EYE
    door = torch.tensor([0.0, _shell(rooms.seeds[0])[1], _EYE], device=rooms.device)
    before = torch.tensor([_BEFORE, 0.0, 0.0], device=rooms.device)
    here = _far_spot(rooms, door - before, spots[spots[:, 0] < -_BEFORE])
    there = _far_spot(rooms, door + before, spots[spots[:, 0] > _BEFORE])
    line = _dense(torch.stack([here, door - before, door, door + before, there]))
    path = pull_back(rooms, line[None], smooth(line[None], 5))[0]
    position = path[torch.linspace(0, len(path) - 1, frames).round().long()]
    ahead = torch.cat([position[1:] - position[:-1], position[-1:] - position[-2:-1]])
    travel = torch.atan2(ahead[:, 1], ahead[:, 0])
    yaw = follow_open_space(rooms, position[None], travel[None], position.new_full((1,), 8.0))[0]
    heading = torch.stack([yaw.cos(), yaw.sin(), torch.full_like(yaw, -0.05)], dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=rooms.device)
    return look_at(position.double(), (position + heading).double(), up)


def _shell(seed: int) -> tuple[Builder, float]:
    """The outer walls, and where the door is in y."""
    rng = np.random.default_rng([seed, _PLAN])
    half = np.array([rng.uniform(3.6, 4.6), rng.uniform(1.9, 2.8), rng.uniform(1.2, 1.5)])
    return Builder(rng, half), float(rng.uniform(-0.4, 0.4) * half[1])


def _partition(build: Builder, door_y: float) -> None:
    """The wall between the rooms, in three pieces around the door."""
    half = build.half
    low = door_y - _DOOR[1]
    high = door_y + _DOOR[1]
    build.next_material()
    for start, end in ((-half[1], low), (high, half[1])):
        build.add(
            BOX,
            WALL,
            np.array([0, (start + end) / 2, half[2]]),
            np.array([_DOOR[0], (end - start) / 2, half[2]]),
        )
    lintel = half[2] - _DOOR[2]
    build.add(
        BOX, WALL, np.array([0, door_y, 2 * half[2] - lintel]), np.array([*_DOOR[:2], lintel])
    )


def _is_aside(centre: np.ndarray, size: np.ndarray, door_y: float) -> bool:
    """Whether something leaves the door free."""
    away = np.abs(centre[:2] - [0.0, door_y]) - float(np.linalg.norm(size[:2]))
    return bool(
        away.max() > _KEPT_FREE / 2
        or np.hypot(centre[0], centre[1] - door_y) > _KEPT_FREE + size[:2].max()
    )


def _far_spot(rooms: RoomBatch, start: Tensor, spots: Tensor) -> Tensor:
    """Of spots (K, 3) the farthest that is in free reach of start (3,), or the start itself if none
    is.
    """
    fraction = torch.linspace(0, 1, 16, device=spots.device)[:, None, None]
    line = start + fraction * (spots - start)  # (16, K, 3)
    free = (clearance(rooms, line.flatten(0, 1)[None]).view(line.shape[:2]) >= CLEARANCE).all(0)
    reach = torch.linalg.vector_norm(spots - start, dim=-1) * free
    return spots[int(reach.argmax())] if bool(free.any()) else start


def _dense(corners: Tensor) -> Tensor:
    """Points (N, 3) every few centimetres along the line through corners (K, 3)."""
    pieces = [corners[:1]]
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        count = max(1, int(float((end - start).norm()) / _STEP))
        fraction = torch.linspace(0, 1, count + 1, device=corners.device)[1:, None]
        pieces.append(start + fraction * (end - start))
    return torch.cat(pieces)
