"""Loops of a drive: keyframes that see again what others saw long before.

Looks propose pairs, loop_pairs measures them. One pair proves nothing, since corridors repeat
themselves: a loop is believed only if odometry may have drifted that far, if pairs of neighbours
agree on it, and if not as many of them disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.geometry.drift import Drift, travelled
from vggt3_ros.geometry.pose_graph import RelativePoses
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.loop_pairs import (
    NEIGHBOURS,
    Matches,
    MeasuredPair,
    PairMeasuring,
    agree,
)
from vggt3_ros.landmarks.retrieval import directions
from vggt3_ros.progress import Progress

_ALIKE = 3  # earlier keyframes that each is compared with
_WORTH_M = 0.25  # metres that odometry may have drifted, from which a loop tells anything
_VIEW_M = 4.0  # metres between two keyframes that may see the same
_USUAL = 3.0  # times the usual drift that are possible
_NEAR_M = 3.0  # metres along the drive within which pairs support each other
_MIN_SUPPORT = 2  # pairs of other keyframes that agree
_MAX_RIVALS = 0.5  # of the supporters


@dataclass(frozen=True, eq=False)
class Loops:
    """Measured loops of a drive, all doubtful; compared: pairs that looks proposed; refused: how
    many of them, by reason.
    """

    edges: RelativePoses
    compared: int
    refused: dict[str, int]


def drive_pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of `count` keyframes that follow one another closely along a drive."""
    return [(i, j) for i in range(count) for j in range(i + 1, min(count, i + 1 + NEIGHBOURS))]


def find_loops(
    features: Sequence[Features],
    described: NDArray[np.int8],
    matches: Matches,
    world_from_cam: Floats,
    intrinsics: Floats,
    drift: Drift,
    progress: Progress | None = None,
) -> Loops:
    """Loops among K keyframes in the order of the drive.

    described (K, D) as retrieval.describe makes them; matches of drive_pairs; world_from_cam
    (K, 4, 4) by odometry, metres, which errs by `drift`; intrinsics (K, 3, 3).
    """
    measuring = PairMeasuring(features, matches, world_from_cam, intrinsics)
    pairs = _proposed(described, world_from_cam, drift)
    refused = {"too few matches": 0, "beyond the drift": 0, "not supported": 0}
    found = []
    for done, (i, j) in enumerate(pairs):
        if progress is not None:
            progress(done / len(pairs))
        pair = measuring.measured(i, j)
        if pair is None:
            refused["too few matches"] += 1
        elif not _possible(pair, world_from_cam, drift):
            refused["beyond the drift"] += 1
        else:
            found.append(pair)
    supported = _supported(found, world_from_cam, drift)
    refused["not supported"] = len(found) - int(supported.sum())
    kept = [pair for pair, good in zip(found, supported, strict=True) if good]
    return Loops(_edges(kept), len(pairs), refused)


def _proposed(
    described: NDArray[np.int8], world_from_cam: Floats, drift: Drift
) -> list[tuple[int, int]]:
    """For each keyframe the earlier ones most like it, of those that it may have come back to."""
    looks = directions(described)
    along = travelled(world_from_cam)
    position = world_from_cam[:, :3, 3]
    pairs = []
    for j in range(len(along)):
        metres = along[j] - along[:j]
        apart = np.linalg.norm(position[:j] - position[j], axis=1)
        possible = apart <= _VIEW_M + _USUAL * drift.offset(metres)
        possible &= drift.offset(metres) >= _WORTH_M
        earlier = np.flatnonzero(possible)
        best = np.argsort(-(looks[earlier] @ looks[j]), kind="stable")[:_ALIKE]
        pairs += [(int(i), j) for i in earlier[best]]
    return pairs


def _possible(pair: MeasuredPair, world_from_cam: Floats, drift: Drift) -> bool:
    """Whether odometry may have drifted as far as a pair says."""
    along = travelled(world_from_cam)
    way = float(along[pair.second] - along[pair.first])
    expected = np.linalg.inv(world_from_cam[pair.first]) @ world_from_cam[pair.second]
    return agree(pair.first_from_second, expected, *_possible_errors(drift, way))


def _supported(pairs: Sequence[MeasuredPair], world_from_cam: Floats, drift: Drift) -> Mask:
    """Which of P pairs (P,) enough pairs of neighbours agree with, and few disagree."""
    along = travelled(world_from_cam)
    second = np.array([pair.second for pair in pairs], dtype=np.int64)
    good = np.zeros(len(pairs), dtype=bool)
    for number, pair in enumerate(pairs):
        near = np.abs(along[second] - along[pair.second]) <= _NEAR_M
        supporters = set()
        rivals = set()
        for other in [pairs[k] for k in np.flatnonzero(near & (second != pair.second)).tolist()]:
            metres = abs(along[pair.first] - along[other.first])
            way = metres + abs(along[pair.second] - along[other.second])
            if not _same(pair, other, world_from_cam, drift, way):
                rivals.add(other.second)
            elif metres <= _NEAR_M:
                supporters.add(other.second)
        few = len(rivals) <= _MAX_RIVALS * len(supporters)
        good[number] = few and len(supporters) >= _MIN_SUPPORT
    return good


def _same(
    pair: MeasuredPair, other: MeasuredPair, world_from_cam: Floats, drift: Drift, way: float
) -> bool:
    """Whether two pairs, `way` metres of odometry from each other, say the same."""
    keyframes = [pair.first, other.first, other.second, pair.second]
    first, other_first, other_second, second = world_from_cam[keyframes]
    expected = (
        np.linalg.inv(first)
        @ other_first
        @ other.first_from_second
        @ np.linalg.inv(other_second)
        @ second
    )
    return agree(pair.first_from_second, expected, *_possible_errors(drift, way))


def _possible_errors(drift: Drift, way: float) -> tuple[float, float]:
    """Metres and rad that odometry may be off by after `way` metres."""
    metres = np.array(way)
    return _USUAL * float(drift.offset(metres)), _USUAL * float(drift.angle(metres))


def _edges(pairs: Sequence[MeasuredPair]) -> RelativePoses:
    count = len(pairs)
    return RelativePoses(
        np.array([pair.first for pair in pairs], dtype=np.int64),
        np.array([pair.second for pair in pairs], dtype=np.int64),
        np.array([pair.first_from_second for pair in pairs]).reshape(count, 4, 4),
        np.array([pair.covariance for pair in pairs]).reshape(count, 6, 6),
        np.ones(count, dtype=bool),
    )
