"""Keyframes at certain poses, and the observations that agree with one another there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.landmarks.bundle_adjustment import cauchy
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.tracks import Tracks
from vggt3_ros.landmarks.triangulation import MIN_ANGLE, rays_of, triangulate

MAX_OUTLIER = 50.0  # outlier threshold, in deviations
# deviations beyond which an observation is of something else, however far off it lies
_WRONG = 10.0
# deviations beyond which an observation, or a prior, costs little more
_OUTLIER = 3.0
_PRIOR_OUTLIER = 10.0


@dataclass(frozen=True, eq=False)
class Given:
    """What a map is made of: the features of K keyframes, all tracks through them, and the poses
    they came with.

    world_from_cam (K, 4, 4); measured (K,): which of them are priors; intrinsics (K, 3, 3) of the
    undistorted images.
    """

    features: Sequence[Features]
    every: Tracks
    world_from_cam: Floats
    measured: Mask
    intrinsics: Floats
    settings: LandmarkSettings

    def __len__(self) -> int:
        return len(self.features)

    @property
    def anchored(self) -> bool:
        """Whether any prior fixes the world frame."""
        return bool(self.measured.any())

    @cached_property
    def pixel_size(self) -> float:
        """Pixels of the whole image per pixel of the searched one."""
        return float(np.median([one.pixel_size for one in self.features]))

    def gathered(self, what: str, tracks: Tracks) -> NDArray[Any]:
        """`pixels` or `descriptors` (O, ...) of the features that tracks observe."""
        first = np.concatenate([[0], np.cumsum([len(one) for one in self.features])])
        every: NDArray[Any] = np.concatenate([getattr(one, what) for one in self.features])
        return every[first[tracks.keyframe] + tracks.feature]


class Fit:
    """Poses (K, 4, 4) and intrinsics (K, 3, 3) of keyframes, and the tracks whose observations
    agree there.

    numbers: of the points of `tracks` among those of all tracks. noise: robust deviation of an
    observation in pixels; outlier: deviations beyond which one loses its say. contradicted (K,):
    keyframes that must carry no landmarks. pose_covariance (K, 6, 6) of (position in the world,
    rotation in the camera frame), as the adjustment lets expect; map_sigmas: metres and rad per
    axis that the map may be off beside that.
    """

    def __init__(self, given: Given, world_from_cam: Floats) -> None:
        self.given = given
        self.world_from_cam = world_from_cam.copy()
        self.intrinsics = given.intrinsics.copy()
        self.focal = 1.0
        self.noise = given.pixel_size
        self.outlier = MAX_OUTLIER
        self.converged = False
        self.held = False
        self.sigmas = (np.nan, np.nan)
        self.prior_deviation: Floats = np.zeros((len(given), 2))
        self.pose_covariance: Floats = np.zeros((len(given), 6, 6))
        self.map_sigmas = (0.0, 0.0)
        self.contradicted: Mask = np.zeros(len(given), dtype=bool)
        self.choose(np.ones(len(given.every.point), dtype=bool))

    def among_tracks(self) -> Mask:
        """Which of all observations (O,) are among the tracks."""
        every = self.given.every
        count = len(self.given)
        chosen: Mask = np.isin(
            every.point * count + every.keyframe,
            self.numbers[self.tracks.point] * count + self.tracks.keyframe,
        )
        return chosen

    def choose(self, which: Mask) -> None:
        """Take those of all observations (O,) into `tracks`."""
        self.tracks, self.numbers = self.chosen(which)

    def chosen(self, which: Mask) -> tuple[Tracks, Indices]:
        """Those of all observations, of points that keep at least two, and the numbers of those
        points among all.
        """
        counts = np.bincount(self.given.every.point[which], minlength=self.given.every.points)
        return self.given.every.select(which), np.flatnonzero(counts >= 2)

    def agreeing(self, tracks: Tracks, numbers: Indices) -> Mask:
        """Which of all observations (O,) lie where their points project to: by the tracks, whose
        points have `numbers`, other points by all that is known of them.
        """
        every = self.given.every
        points = self.triangulated(every)[0]
        points[numbers] = self.triangulated(tracks)[0]
        error = np.linalg.norm(self.residuals(every, points), axis=1)
        agrees: Mask = error <= max(4 * self.outlier * self.noise, 3 * self.given.pixel_size)
        return agrees

    def agreeing_fraction(self, agrees: Mask) -> tuple[Floats, Mask]:
        """Fraction (K,) of each keyframe's observations that agree, of all (O,), and which
        keyframes (K,) have any.
        """
        keyframe = self.given.every.keyframe
        count = len(self.given)
        seen = np.bincount(keyframe, minlength=count)
        fraction: Floats = np.bincount(keyframe[agrees], minlength=count) / np.maximum(seen, 1)
        return fraction, seen > 0

    def well_seen(self, most: int) -> Tracks:
        """The `most` points seen most often, of those whose rays spread enough."""
        if self.tracks.points == 0:
            return self.tracks
        angle = self.triangulated(self.tracks)[1]
        seen = np.bincount(self.tracks.point)
        good = angle >= MIN_ANGLE
        order = np.lexsort((-angle, -seen, ~good))
        chosen = np.zeros(len(good), dtype=bool)
        chosen[order[:most]] = True
        return self.tracks.select((chosen & good)[self.tracks.point])

    def observations(self, tracks: Tracks) -> Observations:
        """Of tracks, with the intrinsics as they are now."""
        return Observations(tracks.keyframe, tracks.point, self.pixels(tracks), self.intrinsics)

    def pixels(self, tracks: Tracks) -> Floats:
        """Pixels (O, 2) of the observations of tracks."""
        pixels: Floats = self.given.gathered("pixels", tracks).astype(np.float64)
        return pixels

    def triangulated(self, tracks: Tracks) -> tuple[Floats, Floats]:
        """Points (N, 3) of tracks at these poses, and the angle (N,) in rad that their rays spread
        over.
        """
        rays = rays_of(self.pixels(tracks), self.intrinsics[tracks.keyframe])
        return triangulate(self.world_from_cam[tracks.keyframe], rays, tracks.point)

    def residuals(self, tracks: Tracks, points: Floats) -> Floats:
        """Pixels (O, 2) of projected points (N, 3) less those observed."""
        return project(self.observations(tracks), self.world_from_cam, points)[0]

    def depth(self) -> float:
        """Median distance between keyframes and the points that they see."""
        points = self.triangulated(self.tracks)[0]
        rays = points[self.tracks.point] - self.world_from_cam[self.tracks.keyframe, :3, 3]
        return float(np.median(np.linalg.norm(rays, axis=1))) if len(rays) else 0.0

    def cost(self, noise: float, sigmas: tuple[float, float]) -> float:
        """Robust cost of all observations and priors, for a noise in pixels and deviations of
        priors.
        """
        every = self.given.every
        points = self.triangulated(every)[0]
        points[self.numbers] = self.triangulated(self.tracks)[0]
        squared = (self.residuals(every, points) ** 2).sum(1) / noise**2
        total = cauchy(np.minimum(squared, _WRONG**2), _OUTLIER)[0].sum()
        for deviation, sigma in zip(
            self.prior_deviation[self.given.measured].T, sigmas, strict=True
        ):
            total += cauchy((deviation / sigma) ** 2, _PRIOR_OUTLIER)[0].sum()
        return float(total)
