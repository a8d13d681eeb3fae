"""Which keyframes the landmarks hold rigidly together: a point that two keyframes see fixes neither
the scale of their baseline nor, with few of them, the rotation, however small its residuals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask

# landmarks, each seen by two members already, that tie a further keyframe to a set
_MIN_SHARED = 15
# Deviation of a position over its distance to others. Of 38 maps of cameras that move on, 0.017 at
# most; where one turned on the spot and a part of the map shrank unnoticed, 1.5 and 5.4.
_UNDETERMINED = 0.05


def rigid_sets(keyframe: Indices, point: Indices, count: int) -> list[list[int]]:
    """Sets of `count` keyframes, the largest first, each grown from the two that share most of the
    landmarks which a third sees too; then from those that share landmarks with one other alone.

    keyframe (O,) and point (O,) of the observations. Every keyframe is in one set at most.
    """
    seen = _incidence(keyframe, point, count)
    of_three = seen[:, np.flatnonzero(np.asarray(seen.sum(0)).ravel() >= 3)]
    free = np.ones(count, dtype=bool)
    sets: list[list[int]] = []
    for starting in (of_three, seen):
        shared = np.triu((starting @ starting.T).toarray(), 1)
        while True:
            shared[~free] = 0
            shared[:, ~free] = 0
            if shared.max(initial=0) < _MIN_SHARED:
                break
            members = np.zeros(count, dtype=bool)
            members[list(np.unravel_index(int(shared.argmax()), shared.shape))] = True
            members = _grown(seen, members, free)
            sets.append(np.flatnonzero(members).tolist())
            free &= ~members
    return sorted(sets, key=len, reverse=True)


def tied_to(members: Mask, keyframe: Indices, point: Indices) -> Mask:
    """The members (K,), and the other keyframes that landmarks tie to them, one after the other."""
    everyone = np.ones(len(members), dtype=bool)
    return _grown(_incidence(keyframe, point, len(members)), members.copy(), everyone)


def undetermined(positions: Floats, deviations: Floats, keyframe: Indices, point: Indices) -> Mask:
    """Which keyframes (K,) might as well stand elsewhere among those that share landmarks with
    them.

    positions (K, 3) and their standard deviations (K,), in one unit; keyframe (O,) and point (O,)
    of the observations. Where a camera turns on the spot a part of the map may shrink to a point
    without any residual growing: then its positions are as uncertain as they are far apart.
    """
    shared = shared_counts(keyframe, point, len(positions))
    squared = ((positions[:, None] - positions) ** 2).sum(2)  # 0 to itself
    others = shared.sum(1) - shared.diagonal()
    distance = np.sqrt((shared * squared).sum(1) / np.maximum(others, 1))
    loose: Mask = deviations > _UNDETERMINED * distance
    return loose


def shared_counts(keyframe: Indices, point: Indices, count: int) -> NDArray[np.int32]:
    """How many of the points of observations, keyframe (O,) and point (O,), each two of `count`
    keyframes both see (K, K), and each one sees.
    """
    seen = _incidence(keyframe, point, count)
    shared: NDArray[np.int32] = (seen @ seen.T).toarray()
    return shared


def _incidence(keyframe: Indices, point: Indices, count: int):  # type: ignore[no-untyped-def]
    """Sparse (K, N): which keyframe sees which landmark."""
    from scipy.sparse import csr_matrix

    points = int(point.max()) + 1 if len(point) else 0
    return csr_matrix((np.ones(len(point), np.int32), (keyframe, point)), shape=(count, points))


def _grown(seen, members: Mask, free: Mask) -> Mask:  # type: ignore[no-untyped-def]
    while True:
        known = (seen.T @ members.astype(np.int32)) >= 2
        ties = np.where(free & ~members, seen @ known.astype(np.int32), 0)
        best = int(ties.argmax())
        if ties[best] < _MIN_SHARED:
            return members
        members[best] = True
