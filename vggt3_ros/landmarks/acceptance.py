"""When a pose is believed: evidence for it, and objections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.agreement import TELLING, Agreement, occupied
from vggt3_ros.landmarks.landmarks import Landmarks

Pixels = NDArray[np.float32]

# cells of the image in which the map must know something for an agreement that outweighs support
_COMPARED = 3.0
# inliers beside the best plane, and cells they lie in, that mean depth
_OFF_PLANE = 5
_OFF_PLANE_CELLS = 4
# support and agreement, added, that are enough
_WITH_DEPTH = 0.65
_FLAT = 1.15
# ... and by how much more where there are few inliers: all of it if there were none, nothing from
# so many on
_FLAT_FEW = 0.15
_MANY = 40
# support that is needed besides, with depth, where colours differ by as much as is allowed, and
# from which fraction of that on
_COLOURED = 0.25
_COLOURED_FROM = 0.5
# fraction of the inliers that the map has seen a copy of, of flat views and of those with depth
_MAX_REPEATED_FLAT = 0.1
_MAX_REPEATED = 0.5
# inliers, with depth and without, where less than that is compared
_UNCOMPARED = 16
_UNCOMPARED_FLAT = 24
# in images whose longer side has another number of pixels, limits in pixels scale with it
WIDTH = 640.0
INLIER_PX = 4.0  # how far off matches may be that RANSAC counts
RATIO = 0.85  # of Lowe's test of matches with a map
MIN_CELLS = 6  # of 80 x 80 pixels, that hold inliers
_MAX_SIGMA = 0.012  # deviation of a position, as a fraction of the distance to what is seen
_MAX_DISTANCE = 3.0  # from the nearest keyframe, in the map's usual distance to landmarks


@dataclass(frozen=True)
class LocateSettings:
    """What a pose must show to be accepted: min_inliers in 6 cells of the image, min_agreement and
    min_support (see Evidence). The more agreement, the less support is needed, down to
    little_support; flat views need more of both.
    """

    min_inliers: int = 12
    min_agreement: float = 0.35
    min_support: float = 0.4
    little_support: float = 0.1

    def __post_init__(self) -> None:
        fractions = (self.min_agreement, self.min_support, self.little_support)
        if self.min_inliers < 1 or not all(0 <= fraction <= 1 for fraction in fractions):
            raise InputError(
                f"localization settings are out of range: {self}; expected min_inliers of at least"
                " 1, agreements and supports from 0 to 1"
            )


@dataclass(frozen=True)
class Evidence:
    """What speaks for a pose: inliers, the cells of the image they lie in, support, agreement and
    depth.

    inliers are features that agree with a landmark in looks and place.

    support is the product of three fractions: of the cells with features, those that hold inliers;
    of the matches, the inliers; of the inliers, those that a keyframe saw from about the same side
    and distance, the same way up. Where another place wears the textures of the map, single
    surfaces agree with some pose, but what is left and right of them does not, and the pose is odd.
    Support is low, too, where much of a right view is not in the map.

    agreement: of what the map expects in the image, the fraction that the image shows, in the part
    of the image where it is least, and compared, in how many cells that was asked (see
    agreement.Agreement). Where another place holds a copy of something, even of something with
    depth, what is around it contradicts.

    off_plane, off_plane_cells: inliers that lie beside the plane that most of them lie in, and
    their cells. Flat things look alike in many places, what has depth seldom does. repeated: the
    fraction of inliers whose landmarks the map itself has seen a copy of elsewhere.

    unlike: how much the colours of the image differ from those of the map's surfaces, in the part
    where they do most, as a fraction of what the map allows (see appearance.Appearance); 0 where
    its surfaces are not known, or something else speaks against the pose already. A bare wall has
    no landmarks, but a colour.
    """

    inliers: int = 0
    cells: int = 0
    support: float = 0.0
    agreement: float = 0.0
    compared: float = 0.0
    off_plane: int = 0
    off_plane_cells: int = 0
    repeated: float = 0.0
    unlike: float = 0.0

    @property
    def has_depth(self) -> bool:
        """Whether the inliers are more than one plane."""
        return self.off_plane >= _OFF_PLANE and self.off_plane_cells >= _OFF_PLANE_CELLS


def weigh(
    inlying: Pixels,
    features: Pixels,
    matches: int,
    foreseen: int,
    size_wh: tuple[int, int],
    agreed: Agreement,
    off_plane: Mask,
    repeated: Mask,
) -> Evidence:
    """Evidence from the pixels of inliers (n, 2) and of all features (m, 2) of an image, its number
    of matches, how many inliers were foreseen by what the keyframes saw, how the image agrees with
    what they saw, and which inliers (n,) lie off the best plane, and are of landmarks that the map
    has seen a copy of. Colours are not compared.
    """
    _, counts = occupied(features, size_wh)
    cells = len(occupied(inlying, size_wh)[0])
    inliers = len(inlying)
    covered = min(1.0, cells / max(int((counts >= TELLING).sum()), 1))
    return Evidence(
        inliers=inliers,
        cells=cells,
        support=covered * (inliers / max(matches, 1)) * (foreseen / max(inliers, 1)),
        agreement=agreed.fraction,
        compared=agreed.compared,
        off_plane=int(off_plane.sum()),
        off_plane_cells=len(occupied(inlying[off_plane], size_wh)[0]),
        repeated=float(repeated.mean()) if inliers else 0.0,
    )


def objection(evidence: Evidence, settings: LocateSettings) -> str | None:
    """Why the evidence does not suffice, a sentence with the figures; None if it does."""
    return too_little(evidence, settings) or contradiction(evidence, settings)


def too_little(evidence: Evidence, settings: LocateSettings) -> str | None:
    """Why an image shows too little of the map to tell; None if it shows enough."""
    inliers = _needed_inliers(evidence, settings)
    if evidence.inliers < inliers:
        return f"only {evidence.inliers} landmarks agree with the best pose, {inliers} are needed"
    if evidence.cells < MIN_CELLS:
        return (
            f"the {evidence.inliers} landmarks that agree with the best pose lie in"
            f" {evidence.cells} cells of the image, {MIN_CELLS} are needed"
        )
    return None


def contradiction(evidence: Evidence, settings: LocateSettings) -> str | None:
    """What in an image speaks against a pose, however much speaks for it; None if nothing does."""
    repeating = _MAX_REPEATED if evidence.has_depth else _MAX_REPEATED_FLAT
    if evidence.repeated >= repeating:
        flat = "" if evidence.has_depth else ", which lie in one plane,"
        return (
            f"of the {evidence.inliers} landmarks that agree with the best pose{flat} the map has"
            f" seen copies of {evidence.repeated:.0%} elsewhere: a thing that repeats, as doors in"
            " a corridor"
        )
    if evidence.agreement < settings.min_agreement:
        return (
            f"{evidence.inliers} landmarks agree with the best pose, but a part of the image shows"
            f" only {evidence.agreement:.2f} of what the map expects there and"
            f" {settings.min_agreement:.2f} is needed: it contradicts, as in another place that"
            " holds the same things"
        )
    if evidence.unlike > 1:
        return (
            f"{evidence.inliers} landmarks agree with the best pose, but a part of the image has"
            f" other colours than the map has there, by {evidence.unlike:.2f} times what it allows:"
            " it shows another place, or has changed"
        )
    needed = _needed_support(evidence, settings)
    if evidence.support < needed:
        where = ""
        if _doubt(evidence) > 0:
            where = f" where colours differ by {evidence.unlike:.2f} times what the map allows"
        return (
            f"{evidence.inliers} landmarks agree with the best pose, but support is"
            f" {evidence.support:.2f} and {needed:.2f} is needed{where}: much of the image"
            " contradicts it, as in another place that looks alike"
        )
    return None


def _needed_inliers(evidence: Evidence, settings: LocateSettings) -> int:
    """How many inliers a pose needs: more where little can be compared with the map, as in a
    blurred image.
    """
    if evidence.compared >= _COMPARED:
        return settings.min_inliers
    return max(settings.min_inliers, _UNCOMPARED if evidence.has_depth else _UNCOMPARED_FLAT)


def _needed_support(evidence: Evidence, settings: LocateSettings) -> float:
    """How much support a pose needs: less, the more the image agrees, and still less where it sees
    depth, unless colours differ nearly too much. Flat things look alike in many places: there even
    min_support is not enough where the image hardly agrees, and few landmarks in a plane tell less
    than many.
    """
    if evidence.compared < _COMPARED:
        return settings.min_support
    if evidence.has_depth:
        enough = max(_WITH_DEPTH - evidence.agreement, settings.little_support)
        return min(enough, settings.min_support) + _COLOURED * _doubt(evidence)
    few = _FLAT_FEW * max(0.0, 1 - evidence.inliers / _MANY)
    return max(_FLAT + few - evidence.agreement, settings.little_support)


def _doubt(evidence: Evidence) -> float:
    """How close colours come to differing by more than the map allows: 0 up to half of it, then up
    to 1. 0 where they ask for no support: in flat views, and where little can be compared.
    """
    if evidence.compared < _COMPARED or not evidence.has_depth:
        return 0.0
    return max(0.0, (evidence.unlike - _COLOURED_FROM) / (1 - _COLOURED_FROM))


def implausible(
    world_from_cam: Floats,
    covariance: Floats,
    seen: NDArray[np.float32],
    landmarks: Landmarks,
    usual_distance: float,
) -> str | None:
    """Why a pose with this covariance, relative to the map, cannot be used, whatever the evidence;
    None if it can.

    seen (n, 3) are the positions it was found with, usual_distance that of the map's landmarks from
    their keyframes.
    """
    if not (np.isfinite(world_from_cam).all() and np.isfinite(covariance).all()):
        return "the pose is not finite"
    nearest = np.linalg.norm(
        landmarks.world_from_cam[:, :3, 3] - world_from_cam[:3, 3], axis=1
    ).min()
    if nearest > _MAX_DISTANCE * usual_distance:
        return (
            f"the pose is {nearest:.1f} away from the nearest keyframe, more than"
            f" {_MAX_DISTANCE:g} times the distance of {usual_distance:.1f} from which the"
            " map usually saw its landmarks"
        )
    sigma = float(np.sqrt(max(np.linalg.eigvalsh(covariance[:3, :3])[-1], 0.0)))
    distance = float(np.median(np.linalg.norm(seen - world_from_cam[:3, 3], axis=1)))
    if not sigma <= _MAX_SIGMA * distance:
        return (
            f"the position is determined with a standard deviation of {sigma:.3g}, more than"
            f" {_MAX_SIGMA:g} of the distance of {distance:.3g} to what is seen"
        )
    return None
