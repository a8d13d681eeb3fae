"""Points seen in pixels of keyframes, and how they project."""

from __future__ import annotations

from dataclasses import dataclass

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


def project(
    seen: Observations, world_from_cam: Floats, points: Floats, focal_factor: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """Pixels (O, 2) of points (N, 3) projected into cameras (K, 4, 4), less those observed and far
    off behind a camera; the points in camera axes (O, 3); and the focal lengths (O, 2), of the
    intrinsics times focal_factor.
    """
    pose = world_from_cam[seen.keyframe]
    k = seen.intrinsics[seen.keyframe]
    cam = np.einsum("oji,oj->oi", pose[:, :3, :3], points[seen.point] - pose[:, :3, 3])
    focal = focal_factor * k[:, [0, 1], [0, 1]]
    pixels = focal * cam[:, :2] / np.maximum(cam[:, 2:], MIN_DEPTH) + k[:, :2, 2]
    residual: Floats = np.where(cam[:, 2:] > MIN_DEPTH, pixels - seen.pixels, _BEHIND_PX)
    return residual, cam, focal


def pixel_derivative(cam: Floats, focal: Floats) -> Floats:
    """How pixels move (O, 2, 3) with points (O, 3) in camera axes, under focal lengths (O, 2)."""
    z = np.maximum(cam[:, 2], MIN_DEPTH)
    derivative = np.zeros((len(cam), 2, 3))
    derivative[:, [0, 1], [0, 1]] = focal / z[:, None]
    derivative[:, :, 2] = -focal * cam[:, :2] / z[:, None] ** 2
    return derivative
