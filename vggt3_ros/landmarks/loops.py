"""Loops of a drive: keyframes that see again what others saw long before.

Looks propose pairs. Of each keyframe there are points that it and its neighbours along the drive
see, in the metres of the odometry, and a pair is measured by the points of either in the image of
the other. One pair proves nothing, since corridors repeat themselves: a loop is believed only if
odometry may have drifted that far, if pairs of neighbours agree on it, and if not as many of them
disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.drift import Drift, travelled
from vggt3_ros.geometry.pose_graph import RelativePoses
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.pairs import verified_matches
from vggt3_ros.landmarks.pnp import PnpSettings, PnpSolution, solve_pnp
from vggt3_ros.landmarks.retrieval import directions
from vggt3_ros.landmarks.triangulation import MIN_ANGLE, rays_of, triangulate
from vggt3_ros.progress import Progress

Matches = Mapping[tuple[int, int], NDArray[np.int32]]

NEIGHBOURS = 3  # before and after a keyframe that its points are seen from
_ALIKE = 3  # earlier keyframes that each is compared with
_WORTH_M = 0.25  # metres that odometry may have drifted, from which a loop tells anything
_VIEW_M = 4.0  # metres between two keyframes that may see the same
_USUAL = 3.0  # times the usual drift that are possible
_TOLERANCE_PX = 3.0  # pixels of the searched image
_MIN_INLIERS = 15  # points that measure a pair
_MIN_FRACTION = 0.5  # of its matched points
# of what is measured beside drift: metres, fraction of the distance, rad
_OFF_M = 0.1
_OFF_FRACTION = 0.05
_OFF_RAD = np.radians(3.0)
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
    measuring = _Measuring(features, matches, world_from_cam, intrinsics)
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


@dataclass(frozen=True, eq=False)
class _Pair:
    """first_from_second (4, 4), metres, and its covariance (6, 6) as in RelativePoses."""

    first: int
    second: int
    first_from_second: Floats
    covariance: Floats


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


class _Measuring:
    """Measures pairs of keyframes by the points that each sees with its neighbours."""

    def __init__(
        self,
        features: Sequence[Features],
        matches: Matches,
        world_from_cam: Floats,
        intrinsics: Floats,
    ) -> None:
        self.features = features
        self.matches = matches
        self.world_from_cam = world_from_cam
        self.intrinsics = intrinsics
        self.points: dict[int, tuple[Indices, Floats]] = {}

    def measured(self, i: int, j: int) -> _Pair | None:
        """How two keyframes lie, by the points of each in the image of the other; None where one
        of them does not tell, or they disagree.
        """
        both = verified_matches(self.features, self.intrinsics, [(i, j)]).get((i, j))
        if both is None:
            return None
        forth = self._placed(i, j, both)
        back = self._placed(j, i, both[:, ::-1])
        if forth is None or back is None:
            return None
        pose = forth.world_from_cam
        distance = float(np.linalg.norm(pose[:3, 3]))
        if not _agree(pose @ back.world_from_cam, np.eye(4), _OFF_FRACTION * distance, 0.0):
            return None
        sigmas = np.repeat([_OFF_M + _OFF_FRACTION * distance, _OFF_RAD], 3) / 3
        return _Pair(i, j, pose, forth.covariance + np.diag(sigmas**2))

    def _placed(self, i: int, j: int, both: NDArray[np.int32]) -> PnpSolution | None:
        """Keyframe j (M, 2 matches of features of i and j) among the points of i."""
        feature, points = self._points_of(i)
        known = np.isin(both[:, 0], feature)
        if known.sum() < _MIN_INLIERS:
            return None
        matched = points[np.searchsorted(feature, both[known, 0])]
        pixels = self.features[j].pixels[both[known, 1]].astype(np.float64)
        tolerance = _TOLERANCE_PX * self.features[j].pixel_size
        settings = PnpSettings(inlier_px=tolerance, noise_px=self.features[j].pixel_size)
        found = solve_pnp(matched, pixels, None, self.intrinsics[j], settings)
        if found is None:
            return None
        inliers = found.inliers.sum()
        enough = inliers >= max(_MIN_INLIERS, _MIN_FRACTION * len(matched))
        return found if enough else None

    def _points_of(self, i: int) -> tuple[Indices, Floats]:
        """Features (n,) of a keyframe, ascending, and the points (n, 3) in its axes that they
        show, as it and its neighbours see them.
        """
        if i not in self.points:
            self.points[i] = self._triangulated(i)
        return self.points[i]

    def _triangulated(self, i: int) -> tuple[Indices, Floats]:
        keyframe = []
        own = []
        seen = []
        for (a, b), pairs in self.matches.items():
            if i not in (a, b) or abs(a - b) > NEIGHBOURS:
                continue
            mine, theirs = (0, 1) if a == i else (1, 0)
            keyframe.append(np.full(len(pairs), b if a == i else a))
            own.append(pairs[:, mine])
            seen.append(pairs[:, theirs])
        if not keyframe:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        feature, point = np.unique(np.concatenate(own).astype(np.int64), return_inverse=True)
        # every point is seen by the keyframe itself, too
        keyframe.append(np.full(len(feature), i))
        seen.append(feature)
        point = np.concatenate([point.ravel(), np.arange(len(feature))])
        others = np.concatenate(seen).astype(np.int64)
        return self._seen_well(i, feature, np.concatenate(keyframe), others, point)

    def _seen_well(
        self, i: int, feature: Indices, keyframe: Indices, seen: Indices, point: Indices
    ) -> tuple[Indices, Floats]:
        """Of observations (O,), those points whose rays spread enough and meet."""
        order = np.argsort(point, kind="stable")
        keyframe, seen, point = keyframe[order], seen[order], point[order]
        pixels = np.empty((len(seen), 2))
        for k in np.unique(keyframe):
            pixels[keyframe == k] = self.features[k].pixels[seen[keyframe == k]]
        own_from_world = np.linalg.inv(self.world_from_cam[i])
        poses = (own_from_world @ self.world_from_cam)[keyframe]
        points, angle = triangulate(poses, rays_of(pixels, self.intrinsics[keyframe]), point)
        local = (points[point] - poses[:, :3, 3])[:, None] @ poses[:, :3, :3]
        depth = local[:, 0, 2]
        projected = (local @ self.intrinsics[keyframe].transpose(0, 2, 1))[:, 0]
        off = np.linalg.norm(projected[:, :2] / np.maximum(depth, 1e-6)[:, None] - pixels, axis=1)
        wrong = (off > _TOLERANCE_PX * self.features[i].pixel_size) | (depth <= 0)
        good = (np.bincount(point, wrong, len(points)) == 0) & (angle >= MIN_ANGLE)
        return feature[good], points[good]


def _possible(pair: _Pair, world_from_cam: Floats, drift: Drift) -> bool:
    """Whether odometry may have drifted as far as a pair says."""
    along = travelled(world_from_cam)
    way = float(along[pair.second] - along[pair.first])
    expected = np.linalg.inv(world_from_cam[pair.first]) @ world_from_cam[pair.second]
    return _agree(pair.first_from_second, expected, *_possible_errors(drift, way))


def _supported(pairs: Sequence[_Pair], world_from_cam: Floats, drift: Drift) -> Mask:
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


def _same(pair: _Pair, other: _Pair, world_from_cam: Floats, drift: Drift, way: float) -> bool:
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
    return _agree(pair.first_from_second, expected, *_possible_errors(drift, way))


def _possible_errors(drift: Drift, way: float) -> tuple[float, float]:
    """Metres and rad that odometry may be off by after `way` metres."""
    metres = np.array(way)
    return _USUAL * float(drift.offset(metres)), _USUAL * float(drift.angle(metres))


def _agree(pose: Floats, expected: Floats, offset: float, angle: float) -> bool:
    """Whether two poses (4, 4) are one, but for what measuring them is off, an offset in metres and
    an angle in rad.
    """
    distance = float(np.linalg.norm(expected[:3, 3]))
    off = float(np.linalg.norm(pose[:3, 3] - expected[:3, 3]))
    cosine = (np.trace(pose[:3, :3].T @ expected[:3, :3]) - 1) / 2
    turned = float(np.arccos(np.clip(cosine, -1, 1)))
    return off <= _OFF_M + _OFF_FRACTION * distance + offset and turned <= _OFF_RAD + angle


def _edges(pairs: Sequence[_Pair]) -> RelativePoses:
    count = len(pairs)
    return RelativePoses(
        np.array([pair.first for pair in pairs], dtype=np.int64),
        np.array([pair.second for pair in pairs], dtype=np.int64),
        np.array([pair.first_from_second for pair in pairs]).reshape(count, 4, 4),
        np.array([pair.covariance for pair in pairs]).reshape(count, 6, 6),
        np.ones(count, dtype=bool),
    )
