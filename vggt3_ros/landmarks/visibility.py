"""Which landmarks a camera should see, and which of its features show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.pnp import projections
from vggt3_ros.landmarks.surfaces import Surfaces

_SAME_SIDE = np.cos(np.radians(40.0))  # features look alike from directions that differ by less
_SAME_SIZE = 1.8  # ... and from distances whose ratio is smaller
# ... and by cameras that are turned less about their line of sight
_SAME_WAY_UP = np.cos(np.radians(60.0))
_BELIEVED = 20.0  # degrees of direction within which keyframes tell whether something is seen ...
_BELIEVED_SIZE = 0.5  # ... and of the ratio of distances, as a fraction of log(_SAME_SIZE)
_ASKED = 50  # keyframes that tell, those that saw most
# side of the cubes that surfaces fill, as a fraction of the usual distance of landmarks
_CUBE = 0.02
_OUTLYING = 0.01  # fraction of the points on surfaces, at either end of each axis, left out
_RIVALS = 4  # features near a projection that are looked at


@dataclass(frozen=True, eq=False)
class Expected:
    """Landmarks (n,) that a camera should see, and where in the image, pixels (n, 2); the
    observations (m,) by which keyframes say so, and the number (m,) of each one's landmark among
    the n.
    """

    landmarks: Indices
    pixels: Floats
    observations: Indices
    numbers: Indices


class Visibility:
    """Predicts from the map's own observations what a camera sees: what a keyframe saw from about
    the same direction and distance is rarely hidden.

    surface (N, 3): points on the map's surfaces, which hide what lies behind them; without them
    nothing is known to.
    """

    def __init__(self, landmarks: Landmarks, surface: Floats | None = None) -> None:
        self._landmarks = landmarks
        self._positions = landmarks.positions.astype(np.float64)
        rays = (
            landmarks.positions[landmarks.observed]
            - landmarks.world_from_cam[landmarks.observed_from, :3, 3]
        )
        self.distances: Floats = np.linalg.norm(rays, axis=1)
        self._rays = rays / np.maximum(self.distances, 1e-12)[:, None]
        self._first, self._last = _boxes(landmarks)
        self.usual_distance = float(np.median(self.distances)) if len(landmarks) else 0.0
        self._surfaces: Surfaces | None = None
        if surface is not None and len(surface) and len(landmarks):
            self._surfaces = Surfaces(surface, _CUBE * self.usual_distance, self._box(surface))
            self._may_be_hidden = ~self._seen_through(self._surfaces)

    def observations(
        self,
        world_from_cam: Floats,
        intrinsics: Floats,
        size_wh: tuple[int, int],
        margin: float = 0.0,
    ) -> Indices:
        """Observations whose landmark a camera should see much as their keyframe did: indices into
        `observed`.

        margin: fraction of the image's size by which landmarks may lie outside of it.
        """
        pixels, z = projections(world_from_cam, self._positions, intrinsics)
        size = np.array(size_wh)
        inside = (
            (z > 0)
            & (pixels > -0.5 - margin * size).all(1)
            & (pixels < size * (1 + margin) - 0.5).all(1)
        )
        some = np.nonzero(inside[self._landmarks.observed])[0]
        rays = self._positions[self._landmarks.observed[some]] - world_from_cam[:3, 3]
        distances = np.linalg.norm(rays, axis=1)
        along = (rays * self._rays[some]).sum(1)
        ratio = distances / np.maximum(self.distances[some], 1e-12)
        upright = self._landmarks.world_from_cam[:, :3, 1] @ world_from_cam[:3, 1] > _SAME_WAY_UP
        alike = (along > _SAME_SIDE * distances) & (ratio < _SAME_SIZE) & (ratio > 1 / _SAME_SIZE)
        alike &= upright[self._landmarks.observed_from[some]]
        chosen: Indices = some[alike]
        return chosen

    def expected(
        self, world_from_cam: Floats, intrinsics: Floats, size_wh: tuple[int, int]
    ) -> Expected:
        """Landmarks of these observations, each once."""
        seen = self.observations(world_from_cam, intrinsics, size_wh)
        landmarks, of = np.unique(
            self._landmarks.observed[seen].astype(np.int64), return_inverse=True
        )
        pixels, _ = projections(world_from_cam, self._positions[landmarks], intrinsics)
        return Expected(landmarks, pixels, seen, of)

    def likelihood(
        self, expected: Expected, world_from_cam: Floats, found: Mask, doubt: float = 0.0
    ) -> Floats:
        """How likely a camera sees each of the landmarks it is expected to, 0 to 1 (n,): the
        fraction of the keyframes that look at it from about there and do see it, by how near the
        camera they are.

        What they had in view and did not see is hidden from there, or too weak to be found again.
        What lies behind a surface of the map is not seen, unless it was: found (n,) tells which
        landmarks a feature of the image shows. doubt: so much of a keyframe at the very place of
        the camera, that sees none of them, is asked as well; where all others are far it decides.
        """
        from_keyframe = self._landmarks.observed_from[expected.observations]
        votes = np.bincount(from_keyframe, minlength=len(self._first))
        asked = np.argsort(-votes, kind="stable")[:_ASKED]
        asked = asked[votes[asked] > 0]
        rank = np.full(len(votes), -1)
        rank[asked] = np.arange(len(asked))
        counted = rank[from_keyframe] >= 0
        saw = np.zeros((len(asked), len(expected.landmarks)), dtype=bool)
        saw[rank[from_keyframe[counted]], expected.numbers[counted]] = True
        weight = self._nearness(asked, self._positions[expected.landmarks], world_from_cam)
        asked_in_all = np.maximum(weight.sum(0) + doubt, 1e-9)
        likelihood: Floats = (weight * saw).sum(0) / asked_in_all
        if self._surfaces is not None:
            missed = np.flatnonzero(self._may_be_hidden[expected.landmarks] & ~found)
            hidden = self._surfaces.hide(
                world_from_cam[:3, 3], self._positions[expected.landmarks[missed]]
            )
            likelihood[missed[hidden]] = 0.0
        return likelihood

    def _box(self, surface: Floats) -> Floats:
        """Lowest and highest corner (2, 3) of a box of the cameras and of all points but a few that
        lie far out.
        """
        usual = np.quantile(surface, [_OUTLYING, 1 - _OUTLYING], axis=0)
        corners = np.concatenate([usual, self._landmarks.world_from_cam[:, :3, 3]])
        return np.stack([corners.min(0), corners.max(0)])

    def _seen_through(self, surfaces: Surfaces) -> Mask:
        """Landmarks (L,) that a keyframe saw through surfaces: along a wall at a flat angle, or if
        points are wrong.
        """
        through = np.zeros(len(self._positions), dtype=bool)
        for keyframe, pose in enumerate(self._landmarks.world_from_cam):
            seen = self._landmarks.seen_from(keyframe)
            through[seen] |= surfaces.hide(pose[:3, 3], self._positions[seen])
        return through

    def _nearness(self, keyframes: Indices, points: Floats, world_from_cam: Floats) -> Floats:
        """How much each of K keyframes tells of what a camera sees of points (n, 3): (K, n), 0
        where it looks away.
        """
        poses = self._landmarks.world_from_cam[keyframes]
        intrinsics = self._landmarks.intrinsics[keyframes]
        there = points - poses[:, None, :3, 3]
        here = points - world_from_cam[:3, 3]
        x, y, z = np.moveaxis(there @ poses[:, :3, :3], 2, 0)
        depth = np.where(z > 0, z, np.inf)
        u = intrinsics[:, 0, 0, None] * x / depth + intrinsics[:, 0, 2, None]
        v = intrinsics[:, 1, 1, None] * y / depth + intrinsics[:, 1, 2, None]
        first = self._first[keyframes].T[..., None]
        last = self._last[keyframes].T[..., None]
        looks = (z > 0) & (u >= first[0]) & (u <= last[0]) & (v >= first[1]) & (v <= last[1])
        looks &= (poses[:, :3, 1] @ world_from_cam[:3, 1] > _SAME_WAY_UP)[:, None]
        far = np.linalg.norm(there, axis=2)
        near = np.linalg.norm(here, axis=1)
        cosine = np.einsum("knd,nd->kn", there, here) / np.maximum(far * near, 1e-12)
        size = np.log(np.maximum(near, 1e-12) / np.maximum(far, 1e-12)) / np.log(_SAME_SIZE)
        looks &= (cosine > _SAME_SIDE) & (np.abs(size) < 1)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        nearness: Floats = looks * np.exp(
            -0.5 * ((angle / _BELIEVED) ** 2 + (size / _BELIEVED_SIZE) ** 2)
        )
        return nearness


def _boxes(landmarks: Landmarks) -> tuple[Floats, Floats]:
    """The first and the last pixel (K, 2) in which the camera of each keyframe observed anything:
    about its image.
    """
    _, camera = np.unique(landmarks.intrinsics.reshape(-1, 9), axis=0, return_inverse=True)
    camera = camera.reshape(-1)  # NumPy 2.0 gives it two dimensions
    first = np.full((camera.max(initial=-1) + 1, 2), np.inf)
    last = -first
    np.minimum.at(first, camera[landmarks.observed_from], landmarks.pixels)
    np.maximum.at(last, camera[landmarks.observed_from], landmarks.pixels)
    return first[camera], last[camera]


def guided_matches(
    features: Features,
    candidates: Indices,
    looks: NDArray[np.float32],
    projected: Floats,
    radius_px: float,
    min_alike: float,
) -> Indices:
    """Pairs (M, 2) of feature and landmark: for each of the `candidates` (n,) the feature most like
    it within radius_px of its projection, if the cosine of descriptors is min_alike or more and
    no other candidate suits that feature more. looks (n, D) are unit vectors of the candidates'
    descriptors, projected (n, 2) their pixels at some pose.
    """
    from scipy.spatial import cKDTree

    if len(features) == 0 or len(candidates) == 0:
        return np.zeros((0, 2), np.int64)
    _, near = cKDTree(features.pixels).query(projected, k=_RIVALS, distance_upper_bound=radius_px)
    row, rank = np.nonzero(near < len(features))
    feature = near[row, rank]
    alike = np.einsum("nd,nd->n", features.vectors[feature], looks[row])
    order = np.argsort(-alike, kind="stable")
    order = order[alike[order] >= min_alike]
    pairs = np.stack([feature[order], candidates[row[order]]], axis=1)
    # In order of likeness, the first pair of a feature that is also the first of its landmark.
    first_of_feature = np.zeros(len(pairs), dtype=bool)
    first_of_feature[np.unique(pairs[:, 0], return_index=True)[1]] = True
    first_of_landmark = np.zeros(len(pairs), dtype=bool)
    first_of_landmark[np.unique(pairs[:, 1], return_index=True)[1]] = True
    return pairs[first_of_feature & first_of_landmark]
