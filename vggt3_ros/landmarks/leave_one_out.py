"""How well the other keyframes predict the given pose of each: what a map is worth to a query,
without any truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.geometry.robust import MEDIAN_NORM
from vggt3_ros.landmarks.fit import Fit
from vggt3_ros.landmarks.landmarks import are_determined, lower_roots
from vggt3_ros.landmarks.pnp import PnpSettings, PnpSolution, solve_pnp
from vggt3_ros.landmarks.tensors import pose_distances
from vggt3_ros.landmarks.triangulation import MIN_ANGLE, refine_points

_MIN_POINTS = 20  # points of the others that place a keyframe
_MIN_AGREEING = 1 / 3  # of them
_INLIER = 4.0  # pixels of the searched image


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of each measured keyframe, NaN where the others do not place it.

    errors (K, 2): metres and rad between the pose that points found without it lead to and its
    given one; deviations (K, 2): standard ones, per axis, that the observations let expect.
    """

    errors: Floats
    deviations: Floats

    @property
    def known(self) -> Mask:
        """Which keyframes (K,) are predicted."""
        known: Mask = np.asarray(np.isfinite(self.errors).all(axis=1))
        return known

    def sigmas(self) -> Floats:
        """Standard deviations (2,), metres and rad per axis, of the map beside those of the
        observations.
        """
        median, own = (np.nanmedian(each**2, axis=0) for each in (self.errors, self.deviations))
        sigmas: Floats = np.sqrt(
            np.maximum(median / MEDIAN_NORM**2 - own, 0.1 * median / MEDIAN_NORM**2)
        )
        return sigmas


def predictions(fit: Fit) -> Predictions:
    """The given poses of measured keyframes, as the points of the others predict them."""
    given = fit.given
    errors = np.full((len(given), 2), np.nan)
    deviations = np.full((len(given), 2), np.nan)
    every = given.every
    agrees = np.isin(every.point, fit.numbers) & fit.agreeing(fit.tracks, fit.numbers)
    trusted = agrees & ~fit.contradicted[every.keyframe]
    pixels = fit.pixels(every)
    for keyframe in np.flatnonzero(given.measured):
        found = _placed_by_others(fit, int(keyframe), trusted, pixels)
        if found is not None:
            prior = given.world_from_cam[keyframe]
            errors[keyframe] = pose_distances(found.world_from_cam[None], prior[None])[0]
            deviations[keyframe] = np.sqrt(np.diag(found.covariance).reshape(2, 3).mean(1))
    return Predictions(errors, deviations)


def _placed_by_others(fit: Fit, keyframe: int, trusted: Mask, pixels: Floats) -> PnpSolution | None:
    """Pose of a keyframe by its points, as at least two others see them; None where too few of them
    agree.
    """
    given = fit.given
    every = given.every
    mine = np.flatnonzero(every.keyframe == keyframe)
    others = trusted & (every.keyframe != keyframe) & np.isin(every.point, every.point[mine])
    counts = np.bincount(every.point[others], minlength=every.points)
    others &= counts[every.point] >= 2
    tracks = every.select(others)
    numbers = np.unique(every.point[others])
    points, angle = fit.triangulated(tracks)
    points, covariance = refine_points(
        fit.observations(tracks), fit.world_from_cam, points, fit.noise
    )
    good = (angle >= MIN_ANGLE) & are_determined(points, covariance)
    mine = mine[np.isin(every.point[mine], numbers[good])]
    if len(mine) < _MIN_POINTS:
        return None
    which = np.searchsorted(numbers, every.point[mine])
    settings = PnpSettings(
        inlier_px=max(_INLIER * given.pixel_size, 3 * fit.noise), noise_px=fit.noise
    )
    roots = lower_roots(covariance[which]).astype(np.float64)
    found = solve_pnp(points[which], pixels[mine], roots, fit.intrinsics[keyframe], settings)
    if found is None or found.inliers.sum() < max(_MIN_POINTS, _MIN_AGREEING * len(mine)):
        return None
    return found
