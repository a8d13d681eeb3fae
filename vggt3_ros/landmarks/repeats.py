"""Landmarks of things that the map has seen more than once: doors all alike, windows in a row, the
same sign twice.

A keyframe that knows where it stands is localized against all landmarks which it does not see.
Where enough of them agree on another pose, it looks at a copy of what they are. One image that
shows nothing else cannot tell the two apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.acceptance import INLIER_PX, RATIO, WIDTH
from vggt3_ros.landmarks.features import unit_vectors
from vggt3_ros.landmarks.fit import Fit
from vggt3_ros.landmarks.matching import match_vectors
from vggt3_ros.landmarks.pnp import PnpSettings, reprojection_errors, solve_pnp

_COPIES = 3  # looked for in each keyframe
# of the image's longer side: matches nearer than that to where a landmark belongs may be right
_ELSEWHERE = 0.05
_MIN_INLIERS = 12  # landmarks that agree on another pose


def repeated(fit: Fit, points: Floats, descriptors: NDArray[np.uint8], seen: Mask) -> Mask:
    """Which of the landmarks (N,), points (N, 3) with descriptors (N, D), keyframes see copies of.

    seen (K, N): the landmarks of each keyframe. Asked are keyframes whose poses are known: they
    have some, or a prior. One that images contradict is not believed, unless poses are held as
    given: then a copy is what contradicts.
    """
    given = fit.given
    copied = np.zeros(len(points), dtype=bool)
    vectors = unit_vectors(descriptors)
    known = seen.any(1) | (given.measured & (fit.held | ~fit.contradicted))
    for keyframe in np.flatnonzero(known).tolist():
        features = given.features[keyframe]
        intrinsics = fit.intrinsics[keyframe]
        width = max(features.size_wh)
        pnp = PnpSettings(INLIER_PX * width / WIDTH, fit.noise)
        unseen = np.flatnonzero(~seen[keyframe])
        for _ in range(_COPIES):
            feature, landmark = match_vectors(features.vectors, vectors[unseen], RATIO).T
            matched = points[unseen[landmark]]
            pixels = features.pixels[feature].astype(np.float64)
            off = reprojection_errors(fit.world_from_cam[keyframe], matched, pixels, intrinsics)
            elsewhere = off > _ELSEWHERE * width
            found = None
            if elsewhere.sum() >= _MIN_INLIERS:
                found = solve_pnp(matched[elsewhere], pixels[elsewhere], None, intrinsics, pnp)
            if found is None or found.inliers.sum() < _MIN_INLIERS:
                break
            copied[unseen[landmark[elsewhere][found.inliers]]] = True
            unseen = unseen[~copied[unseen]]
    return copied
