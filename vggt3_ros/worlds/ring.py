"""A corridor that leads back to where it starts, and a drive around it and a little further."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.se3 import look_at
from vggt3_ros.worlds.places import Planner
from vggt3_ros.worlds.plan import BOX, LIGHTS, MAX_THINGS, OBJECT, PICTURE, WALL, Builder, RoomPlan

MIN_METRES = 20.0
MAX_METRES = 200.0
_PLAN = 6  # stream of random numbers of a seed, beside those of other places
_WIDTH = 2.4
_EYE = 1.2  # metres above the floor
_CORNER = 1.2  # metres before and after a corner over which the drive turns
_WANDER = 0.25  # rad that the gaze wanders to both sides
_SWAY = 0.2  # metres that the drive leaves the middle of the corridor by


@dataclass(frozen=True)
class Ring:
    """The corridor of a seed whose middle line is `metres` long. Raises InputError for metres out
    of 20 to 200.
    """

    seed: int
    metres: float

    def __post_init__(self) -> None:
        if not MIN_METRES <= self.metres <= MAX_METRES:
            raise InputError(
                f"a ring is {MIN_METRES:g} to {MAX_METRES:g} m long, got {self.metres:g}"
            )

    @property
    def planner(self) -> Planner:
        """What plans corridors of this shape; a seed draws what hangs and stands there."""
        return partial(plan_ring, ring=self)

    @property
    def sides(self) -> tuple[float, float]:
        """Lengths of the middle line along x and along y."""
        long = np.random.default_rng([self.seed, _PLAN]).uniform(0.4, 0.6) * self.metres / 2
        return float(long), self.metres / 2 - float(long)

    def middle(self, along: Floats) -> tuple[Floats, Floats]:
        """Points (N, 2) at `along` (N,) metres on the middle line, counterclockwise, and the
        directions (N, 2) there.
        """
        x, y = self.sides
        corners = np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) / 2
        heading = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
        start = np.cumsum([0, x, y, x])
        at = np.mod(along, self.metres)
        side = np.searchsorted(start, at, side="right") - 1
        points = corners[side] + (at - start[side])[:, None] * heading[side]
        return points, heading[side]

    def drive(self, frames: int, further: float = 4.0) -> Tensor:
        """world_from_cam (frames, 4, 4) float64 once around and `further` metres beyond the start,
        looking ahead; the second time it passes a little beside the first.
        """
        total = self.metres + further
        along = np.linspace(0, total, frames) + self.sides[0] / 3
        phase = np.random.default_rng([self.seed, _PLAN, 1]).uniform(0, 2 * np.pi, 2)
        around = 2 * np.pi * along / self.metres
        position, forward = self._smooth(along)
        sway = _SWAY * np.sin(2.5 * around + phase[0])
        position = position + sway[:, None] * np.stack([-forward[:, 1], forward[:, 0]], axis=1)
        yaw = np.arctan2(forward[:, 1], forward[:, 0])
        yaw += _WANDER * np.sin(0.15 * self.metres * around / 2 + phase[1])
        where = np.concatenate([position, np.full((frames, 1), _EYE)], axis=1)
        ahead = np.stack([np.cos(yaw), np.sin(yaw), np.full(frames, -0.05)], axis=1)
        up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        return look_at(torch.from_numpy(where), torch.from_numpy(where + ahead), up)

    def _smooth(self, along: Floats) -> tuple[Floats, Floats]:
        """Points (N, 2) on the middle line with rounded corners, and unit directions (N, 2)."""
        offsets = np.linspace(-_CORNER, _CORNER, 9)
        points, heading = self.middle((along[:, None] + offsets).ravel())
        forward = heading.reshape(len(along), -1, 2).mean(1)
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        return points.reshape(len(along), -1, 2).mean(1), forward


def plan_ring(seed: int, ring: Ring) -> RoomPlan:
    """The plan of a ring: doors all alike in both walls, pictures, boxes along the walls."""
    rng = np.random.default_rng([seed, _PLAN, 2])
    half = np.array([*(np.array(ring.sides) + _WIDTH) / 2, rng.uniform(1.2, 1.4)])
    build = Builder(rng, half)
    core = np.array([*(np.array(ring.sides) - _WIDTH) / 2, half[2]])
    build.next_material()
    build.add(BOX, WALL, np.array([0, 0, half[2]]), core)
    build.next_material()
    door = np.array([0.02, 0.45, 1.02])
    every = rng.uniform(2.5, 4.0)
    doors = np.arange(1.0, ring.metres, max(every, ring.metres / 16))
    for along in doors:
        _hang(build, ring, along, rng.choice([-1, 1]), door, door[2])
    while len(build.rows) < MAX_THINGS:
        along = rng.uniform(0, ring.metres)
        side = rng.choice([-1, 1])
        build.next_material()
        if rng.random() < 0.7:
            size = np.array([0.015, *rng.uniform(0.2, 0.6, 2)])
            _hang(build, ring, along, side, size, rng.uniform(size[2] + 0.1, 2 * half[2] - size[2]))
        else:
            size = rng.uniform([0.1, 0.1, 0.1], [0.25, 0.4, 0.6])
            _hang(build, ring, along, side, size, size[2], OBJECT)
    lights = np.zeros((LIGHTS, 6))
    lights[:, :3] = rng.uniform(-0.5, 0.5, (LIGHTS, 3)) * half + [0, 0, 1.5 * half[2]]
    lights[:, 3:] = 0.2
    return build.plan(lights, rng.uniform(0.65, 0.9) * (1 + rng.uniform(-0.06, 0.06, 3)))


def _hang(
    build: Builder,
    ring: Ring,
    along: float,
    side: int,
    size: Floats,
    height: float,
    style: int = PICTURE,
) -> None:
    """A box against the inner (1) or the outer wall (-1); half sizes (3,) off, along and up."""
    point, forward = (each[0] for each in ring.middle(np.array([along])))
    left = np.array([-forward[1], forward[0]])
    # not through the next wall where the corridor turns
    for step in (-1.0, 1.0):
        beyond = ring.middle(np.array([along + step * (_WIDTH / 2 + size[1])]))[1][0]
        if not np.array_equal(beyond, forward):
            return
    centre = point + side * (_WIDTH / 2 - size[0]) * left
    half = np.abs(size[0] * left) + np.abs(size[1] * forward)
    build.add(BOX, style, np.array([*centre, height]), np.array([*half, size[2]]))
