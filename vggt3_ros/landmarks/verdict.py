"""Whether a set of landmarks may be trusted to verify poses, and why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_LANDMARKS = 50
_LEAST_SHARED = 10  # landmarks that two keyframes see both, to count as tied together
_LEAST_TIED = 0.5  # share of keyframes
_LARGEST_RESIDUAL = 1.0  # median, in pixels of the searched image
_MOST_OUTLIERS = 1 / 3  # share of prior poses that may be wrong
_LARGEST_DEVIATION = 0.75  # rms deviation from prior positions, of their rms spread; of random ones it is nearly 1


@dataclass(frozen=True)
class Evidence:
    """What an adjustment showed. anchored: prior poses fixed the frame; parts: keyframes tied by landmarks, the largest
    first; residual_px: median; pixel_size: see Features; deviations from the priors are rms; prior_outliers: keyframes;
    spread: rms distance of the keyframes from their middle.
    """

    anchored: bool
    keyframes: int
    parts: list[list[int]]
    landmarks: int
    observations: int
    converged: bool
    residual_px: float
    pixel_size: float
    prior_residual_m: float
    prior_residual_rad: float
    prior_outliers: list[int]
    spread: float


@dataclass(frozen=True)
class Verdict:
    """Whether poses can be verified, and a sentence that says why."""

    verified: bool
    reason: str


def judge(evidence: Evidence) -> Verdict:
    """Verdict on the evidence; the first thing that is wrong is named with its figures."""
    sizes = [len(part) for part in evidence.parts]
    tied = sum(sizes) if evidence.anchored else max(sizes, default=0)
    doubts = [
        (
            evidence.landmarks < _LEAST_LANDMARKS,
            f"{evidence.landmarks} landmarks were found, {_LEAST_LANDMARKS} are needed: too little texture, or too "
            "little overlap or motion between the frames",
        ),
        (not evidence.converged, "the adjustment of poses and landmarks did not converge"),
        (
            tied < _LEAST_TIED * evidence.keyframes,
            f"the map falls into parts: landmarks tie {tied} of {evidence.keyframes} keyframes together"
            f" (parts of {', '.join(map(str, sizes)) or 'none'}); take frames closer together",
        ),
        (
            evidence.residual_px > _LARGEST_RESIDUAL * evidence.pixel_size,
            f"the landmarks miss their observations by {evidence.residual_px:.1f} px in the median; check intrinsics "
            "and lens distortion",
        ),
        (
            evidence.anchored and len(evidence.prior_outliers) > _MOST_OUTLIERS * evidence.keyframes,
            f"the images contradict {len(evidence.prior_outliers)} of {evidence.keyframes} prior poses",
        ),
        (
            evidence.anchored and evidence.prior_residual_m > _LARGEST_DEVIATION * evidence.spread,
            f"the images contradict the prior poses: {evidence.prior_residual_m:.3g} m rms at a spread of "
            f"{evidence.spread:.3g} m",
        ),
    ]
    for applies, reason in doubts:
        if applies:
            return Verdict(False, reason)
    tied_of = f"{tied} of {evidence.keyframes} keyframes"
    return Verdict(True, f"{evidence.landmarks} landmarks tie {tied_of}, residual {evidence.residual_px:.2f} px")


def parts_of(keyframe: NDArray[np.int64], point: NDArray[np.int64], count: int) -> list[list[int]]:
    """Groups of at least two of `count` keyframes tied by landmarks that both see, the largest first."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if len(point) == 0:
        return []
    seen = csr_matrix((np.ones(len(point), np.int32), (keyframe, point)), shape=(count, int(point.max()) + 1))
    shared = (seen @ seen.T).toarray() >= _LEAST_SHARED
    np.fill_diagonal(shared, False)
    label = connected_components(csr_matrix(shared), directed=False)[1]
    groups = [np.flatnonzero(label == part).tolist() for part in np.unique(label)]
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)
