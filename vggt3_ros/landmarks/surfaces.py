"""What the surfaces of a map hide from a camera."""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Mask

_MAX_CUBES = 2**24  # bytes that a map's surfaces may take
_NEAR = 0.05  # of the distance to a point, before it: there surfaces are taken for the point's own
_NEAR_CUBES = 2  # ... and so many cubes


class Surfaces:
    """The cubes of space in which points on surfaces lie.

    points (N, 3); side of the cubes, in the same unit, larger where all of the box would be more
    than 16 million. What lies outside of the box, lowest and highest corner (2, 3), is left out.
    """

    def __init__(self, points: Floats, side: float, box: Floats) -> None:
        extent = np.maximum(box[1] - box[0], side)
        self._side = max(side, float(np.cbrt(extent.prod() / _MAX_CUBES)))
        # a rim of empty cubes: what lies outside is clipped to it
        self._lowest = box[0] - self._side
        self._last = np.floor((extent + self._side) / self._side).astype(np.int32) + 1
        self._filled = np.zeros(self._last + 1, dtype=bool)
        cubes = np.floor((points - self._lowest) / self._side).astype(np.int64)
        x, y, z = cubes[((cubes > 0) & (cubes < self._last)).all(1)].T
        self._filled[x, y, z] = True

    def hide(self, eye: Floats, points: Floats) -> Mask:
        """Which of points (n, 3) a camera at `eye` (3,) does not see: (n,). What is just before a
        point hides nothing, for it may be the surface on which the point lies.
        """
        rays = points - eye
        distances = np.linalg.norm(rays, axis=1)
        unit = rays / np.maximum(distances, 1e-12)[:, None]
        enters, leaves = self._crossings(eye, unit)
        ends = np.minimum(distances * (1 - _NEAR) - _NEAR_CUBES * self._side, leaves)
        ends = np.maximum(ends, 0.0)
        begins = np.floor(np.minimum(enters, ends) / self._side).astype(np.int64)
        steps = np.floor(ends / self._side).astype(np.int64) - begins
        which = np.repeat(np.arange(len(points)), steps)
        rank = np.arange(len(which)) - np.repeat(np.cumsum(steps) - steps - begins, steps)
        # single precision is enough within the box; this is most of the work
        along = np.repeat(unit.T.astype(np.float32), steps, axis=1)
        along *= (rank + 0.5).astype(np.float32)
        along += ((eye - self._lowest) / self._side).astype(np.float32)[:, None]
        x, y, z = np.clip(along.astype(np.int32), 0, self._last[:, None])
        _, rows, columns = self._filled.shape
        filled = self._filled.ravel().take((x * rows + y) * columns + z)
        return np.bincount(which[filled], minlength=len(points)) > 0

    def _crossings(self, eye: Floats, unit: Floats) -> tuple[Floats, Floats]:
        """How far from `eye` (3,) rays along unit vectors (n, 3) enter the box and leave it: (n,)
        each, at least 0.
        """
        along = np.where(np.abs(unit) < 1e-12, 1e-12, unit)
        to_corners = np.stack([self._lowest, self._lowest + (self._last + 1) * self._side]) - eye
        first = to_corners[0] / along
        second = to_corners[1] / along
        enters = np.minimum(first, second).max(1).clip(min=0.0)
        return enters, np.maximum(first, second).min(1).clip(min=0.0) + self._side
