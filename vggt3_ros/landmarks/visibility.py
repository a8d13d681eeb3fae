"""Which landmarks a camera should see, and which of its features show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.pnp import projections

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_SAME_SIDE = np.cos(np.radians(40.0))  # features look alike from directions that differ by less
_SAME_SIZE = 1.8  # ... and from distances whose ratio is smaller
_SAME_WAY_UP = np.cos(np.radians(60.0))  # ... and by cameras that are turned less about their line of sight
_RIVALS = 4  # features near a projection that are looked at


class Visibility:
    """Predicts from the map's own observations what a camera sees: nothing is known about surfaces that hide others,
    but what a keyframe saw from about the same direction and distance is rarely hidden.
    """

    def __init__(self, landmarks: Landmarks) -> None:
        self._landmarks = landmarks
        self._positions = landmarks.positions.astype(np.float64)
        rays = landmarks.positions[landmarks.observed] - landmarks.world_from_cam[landmarks.observed_from, :3, 3]
        self.distances: Floats = np.linalg.norm(rays, axis=1)
        self._rays = rays / np.maximum(self.distances, 1e-12)[:, None]

    def observations(
        self, world_from_cam: Floats, intrinsics: Floats, size_wh: tuple[int, int], margin: float = 0.0
    ) -> Indices:
        """Observations whose landmark a camera should see much as their keyframe did: indices into `observed`.

        margin: share of the image's size by which landmarks may lie outside of it.
        """
        pixels, z = projections(world_from_cam, self._positions, intrinsics)
        size = np.array(size_wh)
        inside = (z > 0) & (pixels > -0.5 - margin * size).all(1) & (pixels < size * (1 + margin) - 0.5).all(1)
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

    def landmarks(self, world_from_cam: Floats, intrinsics: Floats, size_wh: tuple[int, int]) -> Indices:
        """Landmarks of these observations, each once."""
        return np.unique(self._landmarks.observed[self.observations(world_from_cam, intrinsics, size_wh)])


def guided_matches(
    features: Features,
    candidates: Indices,
    looks: NDArray[np.float32],
    projected: Floats,
    radius_px: float,
    least_alike: float,
) -> Indices:
    """Pairs (M, 2) of feature and landmark: for each of the `candidates` (n,) the feature most like it within radius_px
    of its projection, if the cosine of descriptors is least_alike or more and no other candidate suits that feature
    more. looks (n, D) are unit vectors of the candidates' descriptors, projected (n, 2) their pixels at some pose.
    """
    from scipy.spatial import cKDTree

    if len(features) == 0 or len(candidates) == 0:
        return np.zeros((0, 2), np.int64)
    _, near = cKDTree(features.pixels).query(projected, k=_RIVALS, distance_upper_bound=radius_px)
    row, rank = np.nonzero(near < len(features))
    feature = near[row, rank]
    alike = np.einsum("nd,nd->n", features.vectors[feature], looks[row])
    order = np.argsort(-alike, kind="stable")
    order = order[alike[order] >= least_alike]
    pairs = np.stack([feature[order], candidates[row[order]]], axis=1)
    # In order of likeness, the first pair of a feature that is also the first of its landmark.
    first_of_feature = np.zeros(len(pairs), dtype=bool)
    first_of_feature[np.unique(pairs[:, 0], return_index=True)[1]] = True
    first_of_landmark = np.zeros(len(pairs), dtype=bool)
    first_of_landmark[np.unique(pairs[:, 1], return_index=True)[1]] = True
    return pairs[first_of_feature & first_of_landmark]
