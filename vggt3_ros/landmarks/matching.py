"""Which features of two sets show the same point: by their looks, then by epipolar geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.features import unit_vectors

Pairs = NDArray[np.int32]

_MIN_MATCHES = 12  # matches below which an essential matrix proves nothing
_CONFIDENCE = 0.999


def match(query: NDArray[np.uint8], target: NDArray[np.uint8], ratio: float = 0.8) -> Pairs:
    """Index pairs (M, 2) of descriptors (n, D) and (m, D): each the other's nearest, passing Lowe's
    ratio test.
    """
    return match_vectors(unit_vectors(query), unit_vectors(target), ratio)


def match_vectors(
    query: NDArray[np.float32], target: NDArray[np.float32], ratio: float = 0.8
) -> Pairs:
    """`match` for the unit vectors (n, D) and (m, D) of descriptors."""
    if len(query) == 0 or len(target) < 2:
        return np.zeros((0, 2), np.int32)
    alike = query @ target.T  # (n, m)
    rows = np.arange(len(query))
    best = alike.argmax(1)
    first = alike[rows, best]
    alike[rows, best] = -np.inf
    second = alike.max(1)
    alike[rows, best] = first
    # Squared distances of unit vectors are 2 - 2 cos.
    chosen = np.flatnonzero((1 - first) < ratio**2 * (1 - second))
    # few columns: whole ones are slow to search
    chosen = chosen[alike[:, best[chosen]].argmax(0) == chosen]
    return np.stack([chosen, best[chosen]], axis=1).astype(np.int32)


def epipolar_inliers(a: Floats, b: Floats, tolerance: float) -> Mask:
    """Which of M matched rays agree with one essential matrix (RANSAC): (M,) bool, none when too
    few do.

    a, b (M, 2) are image points divided by the focal length (x/z, y/z); tolerance in the same unit.
    """
    import cv2

    none = np.zeros(len(a), dtype=bool)
    if len(a) < _MIN_MATCHES:
        return none
    cv2.setRNGSeed(0)  # the same matches give the same answer, whatever was searched before
    _, mask = cv2.findEssentialMat(a, b, np.eye(3), cv2.USAC_ACCURATE, _CONFIDENCE, tolerance)
    if mask is None:
        return none
    inliers: Mask = mask.ravel().astype(bool)
    return inliers if inliers.sum() >= _MIN_MATCHES else none
