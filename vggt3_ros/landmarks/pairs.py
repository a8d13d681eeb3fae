"""Which keyframes to compare with which, and the matches that hold: pairs that poses or looks
suggest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.matching import epipolar_inliers, match
from vggt3_ros.landmarks.retrieval import directions, most_similar
from vggt3_ros.landmarks.triangulation import rays_of
from vggt3_ros.progress import Progress

_TOLERANCE = 1.0  # pixels of the searched image between a match and its epipolar line
_MIN_MATCHES = 15  # matches of a pair that is believed: five more than chance makes


def candidate_pairs(
    world_from_cam: Floats, described: NDArray[np.int8], neighbours: int
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of K keyframes: for each the `neighbours` nearest, half by pose and half
    by looks.

    Poses (K, 4, 4) count by distance, in units of the median distance between successive keyframes,
    plus the angle between viewing directions in units of 30 degrees. described (K, D) as
    retrieval.describe makes them.
    """
    count = len(world_from_cam)
    if count <= neighbours + 1:
        return list(combinations(range(count), 2))
    position = world_from_cam[:, :3, 3]
    forward = world_from_cam[:, :3, 2]
    unit = np.median(np.linalg.norm(np.diff(position, axis=0), axis=1)) + 1e-9
    apart = np.linalg.norm(position[:, None] - position[None], axis=2) / unit
    apart += np.degrees(np.arccos(np.clip(forward @ forward.T, -1, 1))) / 30
    looks = directions(described)
    half = neighbours // 2
    pairs = set()
    for i in range(count):
        near = np.argsort(apart[i], kind="stable")[: half + 1]
        for j in (*near, *most_similar(described[i], looks, half + 1)):
            if i != j:
                pairs.add((min(i, int(j)), max(i, int(j))))
    return sorted(pairs)


def verified_matches(
    features: Sequence[Features],
    intrinsics: Floats,
    pairs: Sequence[tuple[int, int]],
    progress: Progress | None = None,
) -> dict[tuple[int, int], NDArray[np.int32]]:
    """Matches {(i, j): (M, 2)} of pairs that agree with one epipolar geometry, under intrinsics (K,
    3, 3).
    """
    rays = [
        rays_of(one.pixels.astype(np.float64), np.broadcast_to(k, (len(one), 3, 3)))[:, :2]
        for one, k in zip(features, intrinsics, strict=True)
    ]
    found = {}
    for done, (i, j) in enumerate(pairs):
        if progress is not None:
            progress(done / len(pairs))
        matches = match(features[i].descriptors, features[j].descriptors)
        tolerance = _TOLERANCE * features[i].pixel_size / intrinsics[i, 0, 0]
        holds = epipolar_inliers(rays[i][matches[:, 0]], rays[j][matches[:, 1]], float(tolerance))
        if holds.sum() >= _MIN_MATCHES:
            found[i, j] = matches[holds]
    return found
