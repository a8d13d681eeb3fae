"""Points seen in pixels of keyframes, and how they project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Indices, Mask

MIN_DEPTH = 1e-6  # depth up to which a point counts as behind the camera
_BEHIND_PX = 1e3  # residual of such a point


@dataclass(frozen=True, eq=False)
class Observations:
    """O observations sorted by point: keyframe (O,), point (O,), pixels (O, 2); intrinsics (K, 3,
    3) of keyframes.
    """

    keyframe: Indices
    point: Indices
    pixels: Floats
    intrinsics: Floats

    def select(self, keep: Mask, point: Indices) -> Observations:
        """Those that `keep` (O,), of points numbered anew."""
        return Observations(self.keyframe[keep], point, self.pixels[keep], self.intrinsics)


@dataclass(frozen=True, eq=False)
class ObservationOrder:
    """Where the observations of each point, and of each of `count` keyframes, lie.

    by_point (N,): the first one of each point; by_keyframe (O,): an order by keyframes, in which
    starts (K + 1,) and points (O,) are those of a sparse matrix (K, N); sums (K, O) adds values of
    observations up by keyframe.
    """

    count: int
    by_point: Indices
    by_keyframe: Indices
    starts: Indices
    points: Indices
    sums: Any

    @staticmethod
    def of(seen: Observations, count: int, points: int) -> ObservationOrder:
        """Of observations of so many points by `count` keyframes."""
        from scipy.sparse import csr_matrix

        by_keyframe = np.argsort(seen.keyframe, kind="stable")
        ordinal = np.arange(len(seen.keyframe))
        return ObservationOrder(
            count,
            np.searchsorted(seen.point, np.arange(points)),
            by_keyframe,
            np.searchsorted(seen.keyframe[by_keyframe], np.arange(count + 1)),
            seen.point[by_keyframe],
            csr_matrix(
                (np.ones(len(ordinal)), (seen.keyframe, ordinal)), shape=(count, len(ordinal))
            ),
        )

    def by_keyframes(self, values: Floats) -> Floats:
        """Sums (K, ...) of values (O, ...)."""
        total: Floats = np.asarray(self.sums @ values.reshape(len(values), -1)).reshape(
            self.count, *values.shape[1:]
        )
        return total

    def by_points(self, values: Floats) -> Floats:
        """Sums (N, ...) of values (O, ...)."""
        total: Floats = np.add.reduceat(values, self.by_point, axis=0)
        return total


def lenses(seen: Observations) -> tuple[Floats, Floats]:
    """Focal lengths (O, 2) and principal points (O, 2) behind the observations."""
    k = seen.intrinsics[seen.keyframe]
    return k[:, [0, 1], [0, 1]], k[:, :2, 2]


def project(
    seen: Observations,
    world_from_cam: Floats,
    points: Floats,
    focal_factor: float = 1.0,
    lens: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Pixels (O, 2) of points (N, 3) projected into cameras (K, 4, 4), less those observed and far
    off behind a camera; the points in camera axes (O, 3); and the focal lengths (O, 2), of the
    intrinsics times focal_factor. `lens`: what `lenses` gives, where it is known.
    """
    pose = world_from_cam[seen.keyframe]
    focal, centre = lenses(seen) if lens is None else lens
    cam = np.einsum("oji,oj->oi", pose[:, :3, :3], points[seen.point] - pose[:, :3, 3])
    focal = focal_factor * focal
    pixels = focal * cam[:, :2] / np.maximum(cam[:, 2:], MIN_DEPTH) + centre
    residual: Floats = np.where(cam[:, 2:] > MIN_DEPTH, pixels - seen.pixels, _BEHIND_PX)
    return residual, cam, focal


def pixel_derivative(cam: Floats, focal: Floats) -> Floats:
    """How pixels move (O, 2, 3) with points (O, 3) in camera axes, under focal lengths (O, 2)."""
    z = np.maximum(cam[:, 2], MIN_DEPTH)
    derivative = np.zeros((len(cam), 2, 3))
    derivative[:, [0, 1], [0, 1]] = focal / z[:, None]
    derivative[:, :, 2] = -focal * cam[:, :2] / z[:, None] ** 2
    return derivative
