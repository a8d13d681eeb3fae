"""One pose from the last images of a moving camera, none of which shows enough by itself: in a bare
corridor or in bad light an image holds a few landmarks of the map, and the next ones hold others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.uncertainty import GATE
from vggt3_ros.landmarks.acceptance import (
    MIN_CELLS,
    Evidence,
    LocateSettings,
    contradiction,
    implausible,
    too_little,
)
from vggt3_ros.landmarks.agreement import CELLS, TELLING, occupied
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.joint_pnp import RigView, adjust_rig
from vggt3_ros.landmarks.locate import LandmarkLocalizer, Located
from vggt3_ros.landmarks.planes import off_best_plane
from vggt3_ros.landmarks.pnp import reprojection_errors, whitening

MIN_OWN = 6  # inliers by which an image has a say: of fewer, a single wrong one moves the pose
_MIN_VIEWS = 2  # images that must have one, the newest among them
_NEAR = 3.0  # times the reach of inliers: matches as near as that take part in the adjustment


@dataclass(frozen=True, eq=False)
class View:
    """An image that was tried by itself (`located` came of it): its features, and intrinsics (3, 3)
    in its pixels.

    newest_from_cam (4, 4): where odometry has its camera beside that of the newest view; covariance
    (6, 6) of (position in the axes of the newest camera, rotation in its own axes in rad): how far
    odometry may be off.
    """

    features: Features
    intrinsics: Floats
    located: Located
    newest_from_cam: Floats
    covariance: Floats


def is_thin(located: Located, settings: LocateSettings) -> bool:
    """Whether an image was refused because it shows too little, not because what it shows
    contradicts.
    """
    few = too_little(located.evidence, settings) is not None
    return few and not located.accepted and located.world_from_cam is not None


def locate_jointly(localizer: LandmarkLocalizer, views: Sequence[View]) -> Located | None:
    """The accepted pose of the newest view, the last of `views`, from the matches of all; None if
    there is none.

    Of the poses that single images led to, carried along by odometry, that is adjusted with which
    most landmarks of all agree. Evidence is asked for as of a single image: as many landmarks, each
    counted once however many images show it, in as many cells of the view around the newest camera;
    no image that has a say may contradict the pose; and besides, as thin images hardly contradict,
    what they see must have depth. An observation takes part in the poses of several images in a
    row: the covariance is that much larger, so that whoever filters them does not count it twice.
    """
    start = _most_agreed(localizer, views)
    if start is None:
        return None
    poses = [start @ view.newest_from_cam for view in views]
    matches = [
        localizer.matches_at(view.features, view.intrinsics, pose)
        for view, pose in zip(views, poses, strict=True)
    ]
    placed = _placed(localizer, views, matches, poses)
    if placed is None:
        return None
    poses, covariance = placed
    said = [_Said.at(localizer, *each) for each in zip(views, matches, poses, strict=True)]
    evidence = _pooled(localizer, said, views[-1], poses[-1])
    if evidence is None or too_little(evidence, localizer.settings) is not None:
        return None
    feature, landmark = said[-1].agreeing.T
    where = (poses[-1], covariance, localizer.landmarks.positions[landmark])
    if implausible(*where, localizer.landmarks, localizer.usual_distance) is not None:
        return None
    images = sum(each.has_say for each in said)
    agreeing = f"{evidence.inliers} landmarks in {evidence.cells} cells of the view agree"
    return Located(
        accepted=True,
        reason=f"{agreeing}, over {images} images and the odometry between them",
        source="joint",
        world_from_cam=poses[-1],
        covariance=covariance + localizer.floor(poses[-1], landmark),
        evidence=evidence,
        features=feature,
        landmarks=landmark,
    )


@dataclass(frozen=True, eq=False)
class _Said:
    """What a view says to a pose: evidence, the pairs (n, 2) of feature and landmark that agree
    with it, whether they count, and whether it is asked if they contradict.
    """

    evidence: Evidence
    agreeing: Indices
    has_say: bool
    is_asked: bool

    @classmethod
    def at(
        cls, localizer: LandmarkLocalizer, view: View, pairs: Indices, world_from_cam: Floats
    ) -> _Said:
        """To world_from_cam (4, 4), from its matches (M, 2). It has a say by those of them that
        agree, which were found without knowing where to look, and is asked, too, where so much
        matched or is seen that it should have one.
        """
        chosen = pairs[_agree(localizer, view, pairs, world_from_cam)]
        has_say = len(chosen) >= MIN_OWN
        _, counts = occupied(view.features.pixels, view.features.size_wh)
        shows_much = (
            len(pairs) >= localizer.settings.min_inliers or (counts >= TELLING).sum() >= MIN_CELLS
        )
        weighed = localizer.weighed(view.features, view.intrinsics, world_from_cam, pairs, chosen)
        return cls(*weighed, has_say, has_say or bool(shows_much))


def _most_agreed(localizer: LandmarkLocalizer, views: Sequence[View]) -> Floats | None:
    """Of the poses of the newest camera that follow from single images, the one on which most of
    their inliers agree; None where each image stands alone with its own.
    """
    best = None
    most = 0
    for view in views:
        if view.located.world_from_cam is None:
            continue
        newest = view.located.world_from_cam @ np.linalg.inv(view.newest_from_cam)
        agreeing = []
        for other in views:
            pairs = np.stack([other.located.features, other.located.landmarks], axis=1)
            agreeing.append(
                int(_agree(localizer, other, pairs, newest @ other.newest_from_cam, _NEAR).sum())
            )
        if sum(count >= MIN_OWN for count in agreeing) >= _MIN_VIEWS and sum(agreeing) > most:
            best = newest
            most = sum(agreeing)
    return best


def _placed(
    localizer: LandmarkLocalizer, views: Sequence[View], pairs: list[Indices], poses: list[Floats]
) -> tuple[list[Floats], Floats] | None:
    """Adjusted poses (4, 4) of all views and the covariance (6, 6) of the newest one's, from about
    these poses on, by the pairs (M, 2) of each view that are near.

    None if too few views, or not the newest, have a say, or if odometry contradicts what they say.
    """
    rigs = [_rig_view(localizer, *each) for each in zip(views, pairs, poses, strict=True)]
    saying = [number for number, each in enumerate(rigs) if len(each.points) >= MIN_OWN]
    if len(saying) < _MIN_VIEWS or saying[-1] != len(views) - 1:
        return None
    solution = adjust_rig(poses[-1], [rigs[number] for number in saying])
    if solution is None or solution.strain > GATE:
        return None
    placed: list[Floats] = [solution.world_from_cam[-1] @ view.newest_from_cam for view in views]
    for number, pose in zip(saying, solution.world_from_cam, strict=True):
        placed[number] = pose
    return placed, len(views) * solution.covariance


def _rig_view(
    localizer: LandmarkLocalizer, view: View, pairs: Indices, world_from_cam: Floats
) -> RigView:
    """A view for the adjustment, with those of its pairs (M, 2) that are near at a pose (4, 4)."""
    near = pairs[_agree(localizer, view, pairs, world_from_cam, _NEAR)]
    points, pixels, roots = localizer.observed(view.features, near)
    white = np.zeros((0, 2, 2))
    if len(near):
        try:
            white = whitening(
                world_from_cam,
                points,
                view.intrinsics,
                roots,
                localizer.pnp_settings(view.features),
            )
        except np.linalg.LinAlgError:  # a point as good as in the camera: the image has no say
            return _rig_view(localizer, view, pairs[:0], world_from_cam)
    return RigView(points, pixels, white, view.intrinsics, view.newest_from_cam, view.covariance)


def _agree(
    localizer: LandmarkLocalizer,
    view: View,
    pairs: Indices,
    world_from_cam: Floats,
    times: float = 1.0,
) -> Mask:
    """Which of the pairs (M, 2) of a view lie within so many times the reach of inliers, at a pose
    (4, 4).
    """
    points, pixels, _ = localizer.observed(view.features, pairs)
    errors = reprojection_errors(world_from_cam, points, pixels, view.intrinsics)
    agree: Mask = errors < times * localizer.pnp_settings(view.features).inlier_px
    return agree


def _pooled(
    localizer: LandmarkLocalizer, said: list[_Said], newest: View, world_from_cam: Floats
) -> Evidence | None:
    """Evidence of all views for a pose of the newest; None unless enough of them, and the newest,
    have a say, none that is asked contradicts as one by itself would, and what they see has depth:
    few features cannot tell one wall from its copy elsewhere.

    Support, agreement and compared are the least of those asked.
    """
    saying = [each for each in said if each.has_say]
    asked = [each.evidence for each in said if each.is_asked]
    if len(saying) < _MIN_VIEWS or not said[-1].has_say:
        return None
    if any(contradiction(each, localizer.settings) is not None for each in asked):
        return None
    landmarks = np.unique(np.concatenate([each.agreeing[:, 1] for each in saying]))
    points = localizer.landmarks.positions[landmarks].astype(np.float64)
    off_plane = off_best_plane(points, world_from_cam[:3, 3])
    cell = max(newest.features.size_wh) / CELLS / newest.intrinsics[0, 0]
    evidence = Evidence(
        inliers=len(landmarks),
        cells=_cells(points, world_from_cam, cell),
        support=min(each.support for each in asked),
        agreement=min(each.agreement for each in asked),
        compared=min(each.compared for each in asked),
        off_plane=int(off_plane.sum()),
        off_plane_cells=_cells(points[off_plane], world_from_cam, cell),
    )
    return evidence if evidence.has_depth else None


def _cells(points: Floats, world_from_cam: Floats, angle: float) -> int:
    """In how many cells, `angle` (rad) wide and high, of all that is around a camera the points (n,
    3) lie.
    """
    local = (points - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    azimuth = np.arctan2(local[:, 0], local[:, 2])
    elevation = np.arctan2(local[:, 1], np.hypot(local[:, 0], local[:, 2]))
    return len(np.unique(np.floor(np.stack([azimuth, elevation], axis=1) / angle), axis=0))
