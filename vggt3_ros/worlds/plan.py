"""What a place is made of: primitives that are collected one by one, and the plan that they end in
(numpy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats

BOX = 0
CYLINDER = 1
ELLIPSOID = 2
# what a surface shows; picks its textures
OBJECT = 1
PICTURE = 2
WALL = 3
BARE = 4
GLOWING = 5
OPEN = 6
LIGHTS = 2
MAX_THINGS = 60


@dataclass(frozen=True)
class RoomPlan:
    """P primitives, boxes first and the shell first of all; metres, Z up.

    kinds (P,) BOX, CYLINDER, ELLIPSOID; styles (P,) OBJECT ...; materials (P,) primitives of one
    number share their texture; centres (P, 3); halves (P, 3) half sizes; rotations (P, 3, 3);
    lights (LIGHTS, 6); ambient (3,); pieces (P,) primitives of one number above 0 are one piece of
    furniture, that can be moved.
    """

    kinds: NDArray[np.int64]
    styles: NDArray[np.int64]
    materials: NDArray[np.int64]
    centres: Floats
    halves: Floats
    rotations: Floats
    lights: Floats
    ambient: Floats
    pieces: NDArray[np.int64]


class Builder:
    """Collects primitives; positions of furniture are drawn in the shell's floor area.

    half (3,) is half the size of the shell, the first primitive, which stands on z = 0 around the Z
    axis.
    """

    def __init__(self, rng: np.random.Generator, half: Floats, walls: int = WALL) -> None:
        self.rng = rng
        self.half = half
        self.rows: list[tuple[int, int, int, Floats, Floats, Floats, int]] = []
        self.material = 0
        self._pieces = 0
        self._piece = 0  # that is being made, 0 while there is none
        self.add(BOX, walls, np.array([0, 0, half[2]]), half)

    def add(
        self, kind: int, style: int, centre: Floats, half: Floats, rotation: Floats | None = None
    ) -> None:
        """A primitive of the current material."""
        rotation = np.eye(3) if rotation is None else rotation
        self.rows.append(
            (
                kind,
                style,
                self.material,
                np.asarray(centre, float),
                np.asarray(half, float),
                rotation,
                self._piece,
            )
        )

    def piece(self, make: Callable[[Builder], None]) -> None:
        """One piece of furniture: what `make` adds can be moved together."""
        self._pieces += 1
        self._piece = self._pieces
        make(self)
        self._piece = 0

    def next_material(self) -> None:
        """What is added from now on looks different."""
        self.material += 1

    def group(
        self, style: int, base: Floats, yaw: float, parts: list[tuple[Floats, Floats]]
    ) -> None:
        """Boxes (centre, half size) of one piece of furniture, given in its own frame."""
        self.next_material()
        rotation = yaw_matrix(yaw)
        for centre, half in parts:
            self.add(BOX, style, base + rotation @ np.asarray(centre, float), half, rotation)

    def floor_spot(self, reach: float) -> Floats:
        """A point on the floor, `reach` metres off the walls, more often near a wall than in the
        middle.
        """
        limit = np.maximum(self.half[:2] - reach, 0.1)
        spot = np.sign(self.rng.uniform(-1, 1, 2)) * self.rng.random(2) ** 0.6 * limit
        if self.rng.random() < 0.5:
            axis = self.rng.integers(2)
            spot[axis] = np.sign(spot[axis]) * limit[axis]
        return np.array([spot[0], spot[1], 0.0])

    def plan(self, lights: Floats, ambient: Floats) -> RoomPlan:
        """Everything collected, at most MAX_THINGS primitives, under lights (LIGHTS, 6) and
        ambient light (3,).
        """
        rows = sorted(self.rows[:MAX_THINGS], key=lambda row: row[0] != BOX)
        kinds, styles, materials, centres, halves, rotations, pieces = (
            np.array(column) for column in zip(*rows, strict=True)
        )
        return RoomPlan(
            kinds, styles, materials, centres, halves, rotations, lights, ambient, pieces
        )


def yaw_matrix(yaw: float) -> Floats:
    """Rotation (3, 3) about world Z."""
    c = np.cos(yaw)
    s = np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
