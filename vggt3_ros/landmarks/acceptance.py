"""When a pose is believed: evidence for it, and objections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.landmarks import Landmarks

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]

WIDTH = 640.0  # in images whose longer side has another number of pixels, limits in pixels scale with it
_CELLS = 8  # cells along the longer side of an image
_TELLING = 5  # features that a cell shows if it could have held inliers


@dataclass(frozen=True)
class LocateSettings:
    """How a pose is searched, and what it must show to be accepted. Pixels are those of an image 640 pixels wide.

    A pose needs min_inliers within inlier_px in min_cells cells of 80 x 80 pixels, and min_support (see Evidence). The
    standard deviation of its position in the map must stay below max_sigma of the distance to what it sees, and its
    distance to the nearest keyframe below max_distance times the map's usual distance to landmarks.

    keyframes: searched per source; ratio: of Lowe's test; iterations: most hypotheses of RANSAC; guided_px: window
    around projections in which an accepted pose finds further matches, and a given pose is verified; least_alike:
    cosine of descriptors that match within it.
    """

    min_inliers: int = 12
    min_cells: int = 6
    min_support: float = 0.4
    max_sigma: float = 0.05
    max_distance: float = 3.0
    inlier_px: float = 4.0
    keyframes: int = 5
    ratio: float = 0.8
    iterations: int = 1000
    guided_px: float = 8.0
    least_alike: float = 0.85

    def __post_init__(self) -> None:
        counts = (self.min_inliers, self.min_cells, self.keyframes, self.iterations)
        limits = (self.max_sigma, self.max_distance, self.inlier_px, self.guided_px)
        shares = (self.min_support, self.ratio, self.least_alike)
        if min(counts) < 1 or min(limits) <= 0 or not all(0 <= share <= 1 for share in shares):
            raise InputError(
                f"localization settings are out of range: {self}; expected counts of at least 1, limits above 0, "
                f"min_support, ratio and least_alike from 0 to 1"
            )


@dataclass(frozen=True)
class Evidence:
    """What speaks for a pose: inliers, the cells of the image they lie in, and support, the product of three shares:
    of the cells with features, those that hold inliers; of the matches, the inliers; of the inliers, those that a
    keyframe saw from about the same side and distance, the same way up. Where another place wears the textures of the
    map, single surfaces agree with some pose, but what is left and right of them does not, and the pose is odd.
    """

    inliers: int
    cells: int
    support: float


def weigh(inlying: Pixels, features: Pixels, matches: int, expected: int, size_wh: tuple[int, int]) -> Evidence:
    """Evidence from the pixels of inliers (n, 2) and of all features (m, 2) of an image, its number of matches, and
    how many inliers were to be expected from what the keyframes saw.
    """
    cell = max(size_wh) / _CELLS
    _, counts = np.unique(np.floor(features / cell), axis=0, return_counts=True)
    cells, inliers = len(np.unique(np.floor(inlying / cell), axis=0)), len(inlying)
    covered = min(1.0, cells / max(int((counts >= _TELLING).sum()), 1))
    return Evidence(inliers, cells, covered * (inliers / max(matches, 1)) * (expected / max(inliers, 1)))


def objection(evidence: Evidence, settings: LocateSettings) -> str | None:
    """Why the evidence does not suffice, a sentence with the figures; None if it does."""
    if evidence.inliers < settings.min_inliers:
        return f"only {evidence.inliers} landmarks agree with the best pose, {settings.min_inliers} are needed"
    if evidence.cells < settings.min_cells:
        return (
            f"the {evidence.inliers} landmarks that agree with the best pose lie in {evidence.cells} cells of the "
            f"image, {settings.min_cells} are needed"
        )
    if evidence.support < settings.min_support:
        return (
            f"{evidence.inliers} landmarks agree with the best pose, but support is {evidence.support:.2f} and "
            f"{settings.min_support:.2f} is needed: most of the image contradicts it, as in another place that looks "
            f"alike"
        )
    return None


def implausible(
    world_from_cam: Floats,
    covariance: Floats,
    seen: NDArray[np.float32],
    landmarks: Landmarks,
    usual_distance: float,
    settings: LocateSettings,
) -> str | None:
    """Why a pose with this covariance, relative to the map, cannot be used, whatever the evidence; None if it can.

    seen (n, 3) are the positions it was found with, usual_distance that of the map's landmarks from their keyframes.
    """
    if not (np.isfinite(world_from_cam).all() and np.isfinite(covariance).all()):
        return "the pose is not finite"
    nearest = np.linalg.norm(landmarks.world_from_cam[:, :3, 3] - world_from_cam[:3, 3], axis=1).min()
    if nearest > settings.max_distance * usual_distance:
        return (
            f"the pose is {nearest:.1f} away from the nearest keyframe, more than {settings.max_distance:g} times the "
            f"distance of {usual_distance:.1f} from which the map usually saw its landmarks"
        )
    sigma = float(np.sqrt(max(np.linalg.eigvalsh(covariance[:3, :3])[-1], 0.0)))
    distance = float(np.median(np.linalg.norm(seen - world_from_cam[:3, 3], axis=1)))
    if not sigma <= settings.max_sigma * distance:
        return (
            f"the position is determined with a standard deviation of {sigma:.3g}, more than {settings.max_sigma:g} of "
            f"the distance of {distance:.3g} to what is seen"
        )
    return None
