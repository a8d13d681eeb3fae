"""How two keyframes of a drive lie that see the same: by points of one in the image of the other.

The points of a keyframe are those that it and its neighbours along the drive see, triangulated by
odometry, which is right from step to step; so is their scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.pairs import verified_matches
from vggt3_ros.landmarks.pnp import PnpSettings, PnpSolution, solve_pnp
from vggt3_ros.landmarks.triangulation import MIN_ANGLE, rays_of, triangulate

Matches = Mapping[tuple[int, int], NDArray[np.int32]]

NEIGHBOURS = 3  # before and after a keyframe that its points are seen from
_TOLERANCE_PX = 3.0  # pixels of the searched image
_MIN_INLIERS = 15  # points that measure a pair
_MIN_FRACTION = 0.5  # of its matched points
# of what is measured beside drift: metres, fraction of the distance, rad
_OFF_M = 0.1
_OFF_FRACTION = 0.05
_OFF_RAD = np.radians(3.0)


@dataclass(frozen=True, eq=False)
class MeasuredPair:
    """first_from_second (4, 4), metres, with its covariance (6, 6) as in RelativePoses."""

    first: int
    second: int
    first_from_second: Floats
    covariance: Floats


class PairMeasuring:
    """Measures pairs of keyframes by the points that each sees with its neighbours.

    matches of each keyframe with the NEIGHBOURS before and after it; world_from_cam (K, 4, 4) by
    odometry, metres; intrinsics (K, 3, 3).
    """

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

    def measured(self, i: int, j: int) -> MeasuredPair | None:
        """How two keyframes lie, by the points of each in the image of the other; None where one
        of them does not tell, or they disagree.
        """
        features = [self.features[i], self.features[j]]
        both = verified_matches(features, self.intrinsics[[i, j]], [(0, 1)]).get((0, 1))
        if both is None:
            return None
        forth = self._placed(i, j, both)
        back = self._placed(j, i, both[:, ::-1])
        if forth is None or back is None:
            return None
        pose = forth.world_from_cam
        distance = float(np.linalg.norm(pose[:3, 3]))
        if not agree(pose @ back.world_from_cam, np.eye(4), _OFF_FRACTION * distance, 0.0):
            return None
        sigmas = np.repeat([_OFF_M + _OFF_FRACTION * distance, _OFF_RAD], 3) / 3
        return MeasuredPair(i, j, pose, forth.covariance + np.diag(sigmas**2))

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
        keyframe: list[Indices] = []
        own: list[Indices] = []
        seen: list[Indices] = []
        for (a, b), pairs in self.matches.items():
            if i not in (a, b) or abs(a - b) > NEIGHBOURS:
                continue
            mine, theirs = (0, 1) if a == i else (1, 0)
            keyframe.append(np.full(len(pairs), b if a == i else a))
            own.append(pairs[:, mine].astype(np.int64))
            seen.append(pairs[:, theirs].astype(np.int64))
        if not keyframe:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        feature, point = np.unique(np.concatenate(own), return_inverse=True)
        # every point is seen by the keyframe itself, too
        keyframe.append(np.full(len(feature), i))
        seen.append(feature)
        point = np.concatenate([point.ravel(), np.arange(len(feature))])
        return self._seen_well(i, feature, np.concatenate(keyframe), np.concatenate(seen), point)

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


def agree(pose: Floats, expected: Floats, offset: float, angle: float) -> bool:
    """Whether two poses (4, 4) are one, but for what measuring them is off, an offset in metres and
    an angle in rad.
    """
    distance = float(np.linalg.norm(expected[:3, 3]))
    off = float(np.linalg.norm(pose[:3, 3] - expected[:3, 3]))
    cosine = (np.trace(pose[:3, :3].T @ expected[:3, :3]) - 1) / 2
    turned = float(np.arccos(np.clip(cosine, -1, 1)))
    return off <= _OFF_M + _OFF_FRACTION * distance + offset and turned <= _OFF_RAD + angle
