"""Whether a set of landmarks may be trusted to verify poses, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Indices
from vggt3_ros.landmarks.rigid import shared_counts

MIN_LANDMARKS = 50
MIN_SHARED = 10  # landmarks that two keyframes see both, to count as tied together
_MIN_TIED = 0.5  # fraction of keyframes
_MAX_RESIDUAL = 1.0  # median, in pixels of the searched image
_MAX_OUTLIERS = 1 / 3  # fraction of prior poses that may be wrong
# rms deviation from priors, of their rms spread; of random ones it is nearly 1
_MAX_DEVIATION = 0.75
# of the distance to the landmarks: positions off by more are wrong, however little the camera moved
_FAR = 0.2
# fraction of keyframes whose position images leave open: more, and the others' is open to doubt
_MAX_LOOSE = 0.1


@dataclass(frozen=True)
class MapEvidence:
    """What a fit showed. anchored: prior poses fixed the frame; held: they stayed as given; parts:
    keyframes tied by landmarks, the largest first; residual_px: median; pixel_size: see Features;
    depth: median distance to landmarks; deviation from the priors, and spread of the keyframes
    about their mean, both rms in position and rotation (rad); at_odds: keyframes left out because
    their ties to the rest contradict each other; loose: keyframes whose position the images leave
    open where there are no priors; prior_outliers: keyframes whose prior the images contradict.
    """

    anchored: bool
    keyframes: int
    parts: list[list[int]]
    landmarks: int
    observations: int
    converged: bool
    held: bool
    residual_px: float
    pixel_size: float
    depth: float
    deviation: tuple[float, float]
    spread: tuple[float, float]
    at_odds: int
    loose: int
    prior_outliers: list[int]


@dataclass(frozen=True)
class Verdict:
    """Whether poses can be verified, and a sentence that says why."""

    verified: bool
    reason: str


def judge(evidence: MapEvidence) -> Verdict:
    """Verdict on the evidence; the first thing that is wrong is named with its figures."""
    doubt = next(_doubts(evidence), None)
    if doubt is not None:
        return Verdict(False, doubt)
    tied_of = f"{_tied(evidence)} of {evidence.keyframes} keyframes"
    frame = "no prior poses"
    if evidence.anchored:
        frame = "poses held as given" if evidence.held else "poses adjusted"
    residual = f"residual {evidence.residual_px:.2f} px"
    return Verdict(True, f"{evidence.landmarks} landmarks tie {tied_of}, {residual}, {frame}")


def only_falls_apart(evidence: MapEvidence) -> bool:
    """Whether nothing speaks against a map but that too few of its keyframes are tied together."""
    return _in_parts(evidence) is not None and len(list(_doubts(evidence))) == 1


def _doubts(evidence: MapEvidence) -> Iterator[str]:
    """What is wrong with a map, the gravest first."""
    if evidence.landmarks < MIN_LANDMARKS:
        yield (
            f"{evidence.landmarks} landmarks were found, {MIN_LANDMARKS} are needed: too little"
            " texture, or too little overlap or motion between the frames"
        )
    if not evidence.converged:
        yield "the adjustment of poses and landmarks did not converge"
    if evidence.loose > _MAX_LOOSE * evidence.keyframes:
        yield (
            "the camera turned on the spot, or nearly: images alone leave the positions of"
            f" {evidence.loose} of {evidence.keyframes} keyframes open; give prior poses, or move"
            " sideways too"
        )
    in_parts = _in_parts(evidence)
    if in_parts is not None:
        yield in_parts
    if not evidence.held and evidence.residual_px > _MAX_RESIDUAL * evidence.pixel_size:
        yield (
            f"the landmarks miss their observations by {evidence.residual_px:.1f} px in the"
            " median; check intrinsics and lens distortion"
        )
    if evidence.anchored and len(evidence.prior_outliers) > _MAX_OUTLIERS * evidence.keyframes:
        yield (
            f"the images contradict {len(evidence.prior_outliers)} of {evidence.keyframes} prior"
            " poses"
        )
    if evidence.anchored and _like_random(evidence):
        yield (
            f"the images contradict the prior poses: {evidence.deviation[0]:.3g} m and"
            f" {np.degrees(evidence.deviation[1]):.3g} degrees rms at a spread of"
            f" {evidence.spread[0]:.3g} m and {np.degrees(evidence.spread[1]):.3g} degrees"
        )


def _in_parts(evidence: MapEvidence) -> str | None:
    """What is wrong where too few keyframes are tied together."""
    if _tied(evidence) >= _MIN_TIED * evidence.keyframes:
        return None
    sizes = ", ".join(str(len(part)) for part in evidence.parts) or "none"
    return (
        f"the map falls into parts: landmarks tie {_tied(evidence)} of {evidence.keyframes}"
        f" keyframes together (parts of {sizes}; ties of {evidence.at_odds} more contradict each"
        " other); take frames closer together"
    )


def _tied(evidence: MapEvidence) -> int:
    """Keyframes that landmarks tie together: in all parts where priors hold these, else in one."""
    sizes = [len(part) for part in evidence.parts]
    return sum(sizes) if evidence.anchored else max(sizes, default=0)


def _like_random(evidence: MapEvidence) -> bool:
    """Whether poses are off like random ones: a camera that turns on the spot has no spread that
    positions could be compared with, but then it has one of rotations.
    """
    position = evidence.deviation[0] > _MAX_DEVIATION * evidence.spread[0]
    rotation = evidence.deviation[1] > _MAX_DEVIATION * evidence.spread[1]
    return position and (rotation or evidence.deviation[0] > _FAR * evidence.depth)


def parts_of(keyframe: Indices, point: Indices, count: int) -> list[list[int]]:
    """Groups of at least two of `count` keyframes tied by landmarks that both see, the largest
    first.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if len(point) == 0:
        return []
    shared = shared_counts(keyframe, point, count) >= MIN_SHARED
    np.fill_diagonal(shared, False)
    label = connected_components(csr_matrix(shared), directed=False)[1]
    groups = [np.flatnonzero(label == part).tolist() for part in np.unique(label)]
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)
