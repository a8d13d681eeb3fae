"""Which points a camera sees in one plane, and which have depth beside it."""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Mask

_TRIED = 200  # planes
_THICKNESS = 0.02  # of a plane, as a fraction of the distance from which it is seen
_MIN_POINTS = 4  # points of which one can lie off a plane


def off_best_plane(points: Floats, eye: Floats) -> Mask:
    """Which of points (n, 3) lie off the plane that most of them lie in, as seen from a camera at
    `eye` (3,): (n,).

    A point lies in a plane within 2 % of its distance from the camera. Planes through drawn triples
    are tried, the same ones for the same number of points.
    """
    count = len(points)
    if count < _MIN_POINTS:
        return np.zeros(count, dtype=bool)
    a, b, c = points[np.random.default_rng(0).integers(count, size=(3, _TRIED))]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal /= np.maximum(length, 1e-300)
    distance = np.abs(normal @ points.T - (normal * a).sum(1, keepdims=True))
    inside = distance <= _THICKNESS * np.linalg.norm(points - eye, axis=1)
    # three times the same point, or on one line: no plane, unless no three make one
    inside |= length == 0
    number = np.where(length[:, 0] > 0, inside.sum(1), 0)
    best: Mask = ~inside[number.argmax()]
    return best
