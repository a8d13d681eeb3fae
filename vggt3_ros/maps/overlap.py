"""Where one map lies in another: keyframes of each are localized in the other, and their poses have
to agree on one similarity.

A single image may be taken for one of another place that looks alike. What tells is the rest of the
map: keyframes that stand beside it and see something else, and the other map, which has to find the
same place the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.robust import PER_MEDIAN
from vggt3_ros.geometry.sim3 import Sim3, umeyama
from vggt3_ros.landmarks.features import Features, unit_vectors
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import LandmarkLocalizer
from vggt3_ros.landmarks.retrieval import describe, directions, most_similar
from vggt3_ros.landmarks.tensors import (
    pose_distances,
    to_tensor,
    transformed_points,
    transformed_poses,
)
from vggt3_ros.progress import Progress

Size = tuple[int, int]

# Keyframes that are localized: for each one of the other map those most similar to it, and of those
# that should see the other map so many, from all over.
_ALIKE = 3
_MAX_EXPECTED = 60
_MIN_SEEN = 20  # landmarks that a keyframe must see to be localized by them
_MIN_AGREEING = 3  # keyframes that must agree on how the maps lie, of both together
# Keyframes that are localized elsewhere, as a fraction of those that agree, and of those that
# should see the other map by what is agreed on, the fraction that must: in halves of drives 0.41 or
# more.
_MAX_ELSEWHERE = 1 / 3
_MIN_CONFIRMED = 0.3
_MIN_EXPECTED = 40  # landmarks of the other map that a keyframe should see, to be asked
# how far poses may lie from where the similarity has them: of the distance to landmarks, and rad
_NEAR = 0.05
_ALIGNED = np.radians(3.0)
_OUTLIER = 3.0  # robust deviations beyond which a pair of landmarks is left out
_SAME_SCALE = 0.1  # relative difference of the scales of two metric maps that is still believed
_MIN_PAIRS = 8  # landmarks that determine a similarity
_ROUNDS = 5  # of refinement
# of the usual distance to landmarks, within which two that look alike are one
_SAME = 0.005
_NEIGHBOURS = 8  # of each landmark that are looked at
_MIN_ALIKE = 0.85  # cosine of descriptors of one landmark


@dataclass(frozen=True, eq=False)
class Overlap:
    """How map b lies in map a. a_from_b; pairs (M, 2) of landmarks of a and of b that are one and
    the same; keyframes localized in the other map that agree, of a and of b; residual: median
    distance of the pairs, in the unit of a.
    """

    a_from_b: Sim3
    pairs: Indices
    keyframes: tuple[tuple[int, ...], tuple[int, ...]]
    residual: float


@dataclass(frozen=True, eq=False)
class NoOverlap:
    """Why two maps cannot be joined, with the best evidence that was found."""

    reason: str


class Side(NamedTuple):
    """Landmarks of a map, sizes (width, height) of its keyframes' images, its surface (N, 3) if
    known, and whether it has metres.
    """

    landmarks: Landmarks
    sizes_wh: Sequence[Size]
    surface: Floats | None
    is_metric: bool


def find_overlap(a: Side, b: Side, progress: Progress | None = None) -> Overlap | NoOverlap:
    """How b lies in a, as keyframes of both say; or why that cannot be told."""
    report = progress or (lambda fraction: None)
    both = (a, b)
    localizers = [LandmarkLocalizer(side.landmarks, surface=side.surface) for side in both]
    alike = {(own, keyframe) for own in (0, 1) for keyframe in _alike(both[own], both[1 - own])}
    finds = _finds(both, localizers, alike, lambda done: report(0.8 * done))
    best = _best_similarity(both, finds)
    if best is None:
        return NoOverlap(
            f"{len(finds)} keyframes of either map were found in the other, and no two of them"
            " agree on how the maps lie"
        )
    expected = _spread(_expected(both, localizers, best[0]), _MAX_EXPECTED)
    finds += _finds(both, localizers, expected - alike, lambda done: report(0.8 + 0.2 * done))
    best = _best_similarity(both, finds)
    assert best is not None
    a_from_b, agrees = best
    agreed = [find for find, yes in zip(finds, agrees, strict=True) if yes]
    of_a = tuple(find.keyframe for find in agreed if find.own == 0)
    of_b = tuple(find.keyframe for find in agreed if find.own == 1)
    objection = (
        _too_few((len(of_a), len(of_b)), len(finds))
        or _scales_differ(both, a_from_b)
        or _contradicted(expected, agreed)
    )
    if objection is not None:
        return NoOverlap(objection)
    pairs = _one_to_one(both, a_from_b, agreed)
    residual = float(np.median(_distances(both, a_from_b, pairs)))
    return Overlap(a_from_b, pairs, (of_a, of_b), residual)


def keyframe_features(landmarks: Landmarks, keyframe: int, size_wh: Size) -> Features:
    """What a map keeps of the features of a keyframe: those that are landmarks, in the order of
    `seen_from`.
    """
    first, last = np.searchsorted(landmarks.observed_from, [keyframe, keyframe + 1])
    looks = landmarks.descriptors[landmarks.observed[first:last]]
    return Features(landmarks.pixels[first:last], looks, size_wh)


class _Find(NamedTuple):
    """A keyframe of map `own` (0 for a, 1 for b) localized in the other map: its pose (4, 4) there,
    and pairs (M, 2) of landmarks of a and of b that led to it.
    """

    own: int
    keyframe: int
    other_from_cam: Floats
    pairs: Indices


def _alike(side: Side, other: Side) -> set[int]:
    """Keyframes of a map that look most like one of the other: as many as the smaller one calls
    for, however large it is itself.
    """
    own = side.landmarks
    looks = directions(own.keyframe_descriptors)
    seen = (other.landmarks.seen_from(keyframe) for keyframe in range(len(other.sizes_wh)))
    queries = (describe(other.landmarks.descriptors[each], own.vocabulary) for each in seen)
    similar = [most_similar(query, looks, _ALIKE) for query in queries]
    return set(np.concatenate(similar).tolist()) if similar else set()


def _finds(
    both: Sequence[Side],
    localizers: Sequence[LandmarkLocalizer],
    asked: Set[tuple[int, int]],
    progress: Progress,
) -> list[_Find]:
    """What is found of the keyframes asked: (map, keyframe), localized in the other map."""
    found = []
    for done, (own, keyframe) in enumerate(sorted(asked)):
        progress(done / len(asked))
        find = _found(own, both[own], keyframe, localizers[1 - own])
        if find is not None:
            found.append(find)
    return found


def _found(own: int, side: Side, keyframe: int, other: LandmarkLocalizer) -> _Find | None:
    landmarks = side.landmarks
    seen = landmarks.seen_from(keyframe)
    if len(seen) < _MIN_SEEN:
        return None
    features = keyframe_features(landmarks, keyframe, side.sizes_wh[keyframe])
    located = other.locate(features, landmarks.intrinsics[keyframe], sources=["descriptor"])
    if not located.accepted or located.world_from_cam is None:
        return None
    pairs = np.stack([seen[located.features], located.landmarks], axis=1).astype(np.int64)
    return _Find(own, keyframe, located.world_from_cam, pairs if own == 0 else pairs[:, ::-1])


def _best_similarity(both: Sequence[Side], finds: Sequence[_Find]) -> tuple[Sim3, Mask] | None:
    """The similarity a_from_b that most finds agree on, and which of them do; None where none has
    two.
    """
    best = None
    for find in finds:
        similarity = _fitted(both, find.pairs)
        if similarity is None:
            continue
        agrees = _agreeing(both, finds, similarity)
        if best is None or agrees.sum() > best[1].sum():
            best = similarity, agrees
    if best is None or best[1].sum() < 2:
        return None
    for _ in range(_ROUNDS):
        agreed = [find.pairs for find, yes in zip(finds, best[1], strict=True) if yes]
        similarity = _fitted(both, np.unique(np.concatenate(agreed), axis=0))
        if similarity is None:
            break
        agrees = _agreeing(both, finds, similarity)
        if agrees.sum() < best[1].sum():
            break
        best = similarity, agrees
    return best


def _fitted(both: Sequence[Side], pairs: Indices) -> Sim3 | None:
    """Similarity a_from_b of pairs (M, 2) of landmarks, most of which are right; None where they
    do not determine one.
    """
    kept = pairs
    similarity = None
    for _ in range(_ROUNDS):
        if len(kept) < _MIN_PAIRS:
            return None
        target, source = (
            to_tensor(side.landmarks.positions[kept[:, own]]) for own, side in enumerate(both)
        )
        try:
            similarity = umeyama(source, target)
        except InputError:
            return None
        off = _distances(both, similarity, pairs)
        kept = pairs[off <= _OUTLIER * PER_MEDIAN * max(float(np.median(off)), 1e-9)]
    return similarity


def _distances(both: Sequence[Side], a_from_b: Sim3, pairs: Indices) -> Floats:
    """Distances (M,) between landmarks of pairs, in the unit of a."""
    a, b = (side.landmarks.positions[pairs[:, own]] for own, side in enumerate(both))
    off: Floats = np.linalg.norm(a - transformed_points(a_from_b, b), axis=1).astype(np.float64)
    return off


def _agreeing(both: Sequence[Side], finds: Sequence[_Find], a_from_b: Sim3) -> Mask:
    """Which of the finds (F,) stand where the similarity has them."""
    own = np.stack([both[find.own].landmarks.world_from_cam[find.keyframe] for find in finds])
    other = np.stack([find.other_from_cam for find in finds])
    of_a = np.array([find.own == 0 for find in finds])[:, None, None]
    in_a = np.where(of_a, own, other)
    in_b = np.where(of_a, other, own)
    off = pose_distances(transformed_poses(a_from_b, in_b), in_a)
    near = _NEAR * both[0].landmarks.usual_distance
    agrees: Mask = (off[:, 0] <= near) & (off[:, 1] <= _ALIGNED)
    return agrees


def _too_few(agreeing: tuple[int, int], found: int) -> str | None:
    """Why keyframes of a and of b that agree do not suffice, of those that were found at all."""
    agree = sum(agreeing)
    if agree < _MIN_AGREEING or min(agreeing) == 0:
        return (
            f"{agreeing[0]} keyframes of the first map and {agreeing[1]} of the second agree on how"
            f" the maps lie; {_MIN_AGREEING} are needed, and one of either map"
        )
    if found - agree > _MAX_ELSEWHERE * agree:
        return (
            f"{agree} keyframes agree on how the maps lie, but {found - agree} were found"
            " elsewhere: one of the places looks like another"
        )
    return None


def _scales_differ(both: Sequence[Side], a_from_b: Sim3) -> str | None:
    """Why two maps cannot both have metres."""
    if all(side.is_metric for side in both) and abs(a_from_b.scale - 1) > _SAME_SCALE:
        return (
            f"both maps are in metres, but the images say that the second is to be scaled by"
            f" {a_from_b.scale:.3f}; correct one of them first"
        )
    return None


def _expected(
    both: Sequence[Side], localizers: Sequence[LandmarkLocalizer], a_from_b: Sim3
) -> set[tuple[int, int]]:
    """Keyframes (map, keyframe) that should see much of the other map, if the maps lie so."""
    expected = set()
    for own, side in enumerate(both):
        other_from_own = a_from_b if own == 1 else a_from_b.inverse()
        poses = transformed_poses(other_from_own, side.landmarks.world_from_cam)
        for keyframe, pose in enumerate(poses):
            if len(side.landmarks.seen_from(keyframe)) < _MIN_SEEN:
                continue
            seen = localizers[1 - own].visibility.expected(
                pose, side.landmarks.intrinsics[keyframe], side.sizes_wh[keyframe]
            )
            if len(seen.landmarks) >= _MIN_EXPECTED:
                expected.add((own, keyframe))
    return expected


def _spread(keyframes: Set[tuple[int, int]], most: int) -> set[tuple[int, int]]:
    """At most so many of them, evenly in their order."""
    ordered = sorted(keyframes)
    chosen = np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int)
    return {ordered[number] for number in chosen}


def _contradicted(expected: Set[tuple[int, int]], agreed: Sequence[_Find]) -> str | None:
    """What speaks against how the maps lie: keyframes that should then see much of the other map,
    and were not found there.
    """
    confirmed = sum((find.own, find.keyframe) in expected for find in agreed)
    if confirmed < _MIN_CONFIRMED * len(expected):
        return (
            f"{confirmed} keyframes agree on how the maps lie, but {len(expected)} should then see"
            " the other map: the places look alike in part"
        )
    return None


def _one_to_one(both: Sequence[Side], a_from_b: Sim3, finds: Sequence[_Find]) -> Indices:
    """Pairs (M, 2) of landmarks that are the same, none of them twice: those that finds name, most
    often first, then those that lie as near to each other and look alike.

    One that stayed beside its like would make every match with either ambiguous.
    """
    pairs, votes = np.unique(
        np.concatenate([find.pairs for find in finds]), axis=0, return_counts=True
    )
    off = float(np.median(_distances(both, a_from_b, pairs)))
    radius = max(_OUTLIER * PER_MEDIAN * off, _SAME * both[0].landmarks.usual_distance)
    beside = _alike_within(both, a_from_b, radius)
    pairs = np.concatenate([pairs, beside])
    votes = np.concatenate([votes, np.zeros(len(beside), dtype=votes.dtype)])
    apart = _distances(both, a_from_b, pairs)
    near = apart <= radius
    pairs = pairs[near][np.lexsort((apart[near], -votes[near]))]
    chosen = []
    used: tuple[set[int], set[int]] = (set(), set())
    for a, b in pairs.tolist():
        if a not in used[0] and b not in used[1]:
            chosen.append((a, b))
            used[0].add(a)
            used[1].add(b)
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def _alike_within(both: Sequence[Side], a_from_b: Sim3, radius: float) -> Indices:
    """Pairs (M, 2): for each landmark of b the one of a within the radius that looks most like it,
    where one does.
    """
    from scipy.spatial import cKDTree

    a, b = (side.landmarks for side in both)
    off, near = cKDTree(a.positions).query(
        transformed_points(a_from_b, b.positions), _NEIGHBOURS, distance_upper_bound=radius
    )
    looks = unit_vectors(a.descriptors)
    there = np.isfinite(off)
    alike = np.where(
        there, np.einsum("nd,nkd->nk", unit_vectors(b.descriptors), looks[near % len(a)]), -1.0
    )
    best = alike.argmax(1)
    number = np.arange(len(b))
    good = alike[number, best] >= _MIN_ALIKE
    return np.stack([near[number, best], number], axis=1)[good].astype(np.int64)
