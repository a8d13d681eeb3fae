"""Rounds of bundle adjustment that narrow: from poses as they are given to poses that the images
agree with.
"""

from __future__ import annotations

from copy import copy

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.robust import MEDIAN_NORM
from vggt3_ros.landmarks.bundle_adjustment import PosePriors, adjust
from vggt3_ros.landmarks.fit import MAX_OUTLIER, Fit, Given
from vggt3_ros.landmarks.pnp import PnpSettings, solve_pnp
from vggt3_ros.landmarks.tensors import pose_distances, robust_similarity, transformed_poses
from vggt3_ros.landmarks.tracks import Tracks
from vggt3_ros.progress import Progress

_MAX_ADJUSTED = 2_000  # landmarks that take part in the adjustment of poses
_ROUNDS = 5
_SETTLED = 0.1  # relative change of the noise between rounds below which nothing is left to find,
_CALM = 10.0  # where residuals at the start of the round lay within so many deviations
# of rounds before and after that; most maps need 5 to 15
_FIRST_ITERATIONS = 30
_ITERATIONS = 100
_MIN_OUTLIER = 3.0  # outlier threshold, in deviations, of the last rounds
# of a pixel of the searched image: finer than features are, whatever residuals say
MIN_NOISE = 0.1
# least and largest of priors: metres and rad per axis
_SIGMAS = (0.002, np.radians(0.05)), (0.5, np.radians(10))
# generous: a prior believed too much keeps what it bends from straightening
_FIRST_SIGMAS = 0.15, np.radians(5.0)
# of the spread of the positions: more would be no prior to a camera that turns on the spot
_FIRST_FRACTION = 0.25
USUAL = 3.0  # deviations beyond which a prior loses its say
_HELD = 1e-6, 1e-7  # deviations of poses that are held, which none of the images can move
_HELD_OUTLIER = 1e9  # deviations
# of the usual fraction of agreeing observations; keyframes with less are placed anew
_ASTRAY = 0.95
# of the usual fraction; keyframes with less, where they are held, are contradicted
_CONTRADICTED = 0.7
_MIN_SEEN = 20  # points that place a keyframe
_GUESS = 1e3  # a pose that is no measurement: deviations are this many times larger
_NEARER = 0.5  # of the usual deviation from the priors
_BEYOND = 5.0  # deviations at which a prior is contradicted


def adjusted(
    given: Given,
    world_from_cam: Floats,
    progress: Progress,
    sigmas: tuple[float, float] | None = None,
    prior_outlier: float = USUAL,
) -> tuple[Fit, bool]:
    """Adjust poses (K, 4, 4), and whether they fitted the images badly at first.

    sigmas: of the priors, if already known; prior_outlier: deviations beyond which a prior loses
    its say.
    """
    fit = Fit(given, world_from_cam)
    rough = False
    for number in range(_ROUNDS):
        noise = fit.noise
        priors = _priors(fit, first=number == 0, known=sigmas)
        if not _adjust(fit, priors, prior_outlier, _part_of(progress, number)):
            break
        rough = rough or fit.outlier >= _CALM
        _keep_agreeing(fit)
        if _is_settled(fit, noise):
            break
    fit.contradicted = _beyond_the_usual(fit)
    return fit, rough


def brought_back(fit: Fit, progress: Progress) -> Fit | None:
    """The fit moved as a whole, in scale too, to where it suits the priors best, and adjusted there
    once more.

    Images do not mind where it is. None where that brings it hardly nearer, or nothing determines
    it.
    """
    given = fit.given
    measured = fit.given.measured
    if not given.anchored:
        return None
    try:
        given_from_fit = robust_similarity(
            fit.world_from_cam[measured], given.world_from_cam[measured]
        )
    except InputError:
        return None
    back = copy(fit)
    back.world_from_cam = transformed_poses(given_from_fit, fit.world_from_cam)
    back.intrinsics = fit.intrinsics.copy()
    back.prior_deviation = pose_distances(back.world_from_cam, given.world_from_cam)
    if not _usual_deviation(back)[0] < _NEARER * _usual_deviation(fit)[0]:
        return None
    if not _adjust(back, _priors(back, first=False, known=None), USUAL, progress):
        return None
    back.contradicted = _beyond_the_usual(back)
    return back


def is_at_exact_priors(fit: Fit) -> bool:
    """Whether every keyframe has a prior and is no farther from it than the most exact ones usually
    are: then images and priors agree, and no other adjustment finds anything else.
    """
    near = fit.prior_deviation <= USUAL * np.array(_SIGMAS[0])
    return bool(fit.converged and fit.given.measured.all() and near.all())


def _beyond_the_usual(fit: Fit) -> Mask:
    """Which of the priors (K,) the adjusted poses contradict: also where all are said to be more
    exact than most turn out to be, the odd ones alone.
    """
    usual = np.maximum(fit.sigmas, _usual_deviation(fit)) if fit.given.anchored else np.inf
    beyond: Mask = fit.given.measured & (fit.prior_deviation > _BEYOND * usual).any(axis=1)
    return beyond


def readjusted(fit: Fit, members: Mask) -> None:
    """Adjust the members (K,) among the keyframes once more, without what the others observe."""
    fit.choose(fit.among_tracks() & members[fit.given.every.keyframe])
    _adjust(fit, _weighed(fit), USUAL, lambda fraction: None)


def held(given: Given, world_from_cam: Floats, progress: Progress) -> Fit:
    """Measured poses stay as they are given, the others are adjusted to them from poses (K, 4, 4)
    on.

    Keyframes that the others contradict, where they are said to be, are taken for not measured from
    then on.
    """
    fit = Fit(given, np.where(given.measured[:, None, None], given.world_from_cam, world_from_cam))
    fit.held = True
    fit.sigmas = _HELD
    for number in range(_ROUNDS):
        noise = fit.noise
        contradicted = fit.contradicted
        trusted = given.measured & ~contradicted
        factor = np.where(trusted, 1.0, 10.0 / _HELD[1])
        priors = PosePriors(given.world_from_cam, _HELD[0] * factor, _HELD[1] * factor)
        if not _adjust(fit, priors, _HELD_OUTLIER, _part_of(progress, number)):
            break
        fit.world_from_cam[trusted] = given.world_from_cam[trusted]
        fit.contradicted = contradicted | _contradicted(fit, trusted)
        if fit.contradicted.sum() == contradicted.sum() and _is_settled(fit, noise):
            break
    return fit


def _contradicted(fit: Fit, trusted: Mask) -> Mask:
    """Keyframes (K,) that see clearly more of their points elsewhere than others do, where they are
    held: the worst first, since its points let its neighbours look wrong too. Chooses the
    observations that agree with the rest.
    """
    keyframe = fit.given.every.keyframe
    among_tracks = fit.among_tracks()
    contradicted = np.zeros(len(trusted), dtype=bool)
    while True:
        agrees = fit.agreeing(*fit.chosen(among_tracks & ~contradicted[keyframe]))
        fraction, seen = fit.agreeing_fraction(agrees)
        fraction[~(seen & trusted & ~contradicted)] = np.inf
        worst = int(fraction.argmin())
        if not fraction[worst] < _CONTRADICTED * np.median(fraction[np.isfinite(fraction)]):
            fit.choose(agrees)
            return contradicted
        contradicted[worst] = True


def _part_of(progress: Progress, number: int) -> Progress:
    """What to tell during one of the rounds."""
    return lambda fraction: progress((number + fraction) / _ROUNDS)


def _is_settled(fit: Fit, noise_before: float) -> bool:
    return fit.outlier < _CALM and abs(fit.noise / noise_before - 1) < _SETTLED


def _priors(fit: Fit, first: bool, known: tuple[float, float] | None) -> PosePriors:
    """The given poses and their deviations: set, else guessed at first and then estimated from what
    was found.
    """
    given = fit.given
    settings = fit.given.settings
    spread = float(np.sqrt(given.world_from_cam[:, :3, 3].var(0).sum()))
    if not given.anchored:  # they only keep the frame from drifting
        position = max(0.3 * spread, 1e-6)
        rotation = float(np.radians(20.0))
    elif known is not None and first:
        position, rotation = known
    elif first:
        position = max(min(_FIRST_SIGMAS[0], _FIRST_FRACTION * spread), _SIGMAS[0][0])
        rotation = _FIRST_SIGMAS[1]
    else:
        position, rotation = _usual_deviation(fit).tolist()
    fit.sigmas = settings.position_sigma or position, settings.rotation_sigma or rotation
    return _weighed(fit)


def _usual_deviation(fit: Fit) -> Floats:
    """Standard deviations (2,) per axis of measured poses, metres and rad, as the adjusted ones
    show them.
    """
    off = np.median(fit.prior_deviation[fit.given.measured], axis=0)
    deviation: Floats = np.clip(off / MEDIAN_NORM, *_SIGMAS)
    return deviation


def _weighed(fit: Fit) -> PosePriors:
    """The given poses with the deviations of priors as they are estimated, those of guesses far
    larger.
    """
    given = fit.given
    factor = np.where(given.measured | (not given.anchored), 1.0, _GUESS)
    return PosePriors(
        given.world_from_cam, fit.sigmas[0] * factor, np.minimum(fit.sigmas[1] * factor, 10.0)
    )


def _adjust(fit: Fit, priors: PosePriors, prior_outlier: float, progress: Progress) -> bool:
    """One bundle adjustment of the best seen points; False where there are none."""
    given = fit.given
    tracks = fit.well_seen(_MAX_ADJUSTED)
    if tracks.points == 0:
        return False
    points = fit.triangulated(tracks)[0]
    error = np.linalg.norm(fit.residuals(tracks, points), axis=1)
    fit.outlier = float(np.clip(2 * np.quantile(error, 0.8) / fit.noise, _MIN_OUTLIER, MAX_OUTLIER))
    found = adjust(
        fit.observations(tracks),
        fit.world_from_cam,
        points,
        priors,
        noise_px=fit.noise,
        outlier=fit.outlier,
        prior_outlier=prior_outlier,
        refine_focal=given.settings.refine_focal,
        frame_is_free=not fit.held,
        iterations=_ITERATIONS if fit.outlier < _CALM else _FIRST_ITERATIONS,
        progress=progress,
    )
    fit.world_from_cam = found.world_from_cam
    fit.pose_covariance = found.pose_covariance
    fit.prior_deviation = found.prior_deviation
    fit.converged = found.converged
    fit.noise = max(found.noise_px, MIN_NOISE * given.pixel_size)
    fit.intrinsics[:, [0, 1], [0, 1]] *= found.focal
    fit.focal *= found.focal
    return True


def _keep_agreeing(fit: Fit) -> None:
    """Choose the observations, among all, that agree with the adjusted poses and the points they
    have now.

    Keyframes that see clearly more of their points elsewhere than others do were led astray, often
    several at once: they are placed anew, one after the other, by the points of those that were
    not.
    """
    every = fit.given.every
    agrees = fit.agreeing(fit.tracks, fit.numbers)
    fraction, seen = fit.agreeing_fraction(agrees)
    trusted = fraction >= _ASTRAY * np.median(fraction[seen])
    if not trusted[seen].all():
        tracks, numbers = fit.chosen(agrees & trusted[every.keyframe])
        while not trusted.all():
            known = np.isin(every.point, numbers) & ~trusted[every.keyframe]
            shared = np.bincount(every.keyframe[known], minlength=len(fit.given))
            keyframe = int(shared.argmax())
            if shared[keyframe] < _MIN_SEEN or not _place(fit, keyframe, tracks, numbers):
                break
            trusted[keyframe] = True
            agrees = fit.agreeing(tracks, numbers)
            tracks, numbers = fit.chosen(agrees & trusted[every.keyframe])
        agrees = fit.agreeing(tracks, numbers)
    fit.choose(agrees)


def _place(fit: Fit, keyframe: int, tracks: Tracks, numbers: Indices) -> bool:
    """Place a keyframe by the points of tracks; False where too few of them agree on a place."""
    every = fit.given.every
    seen = np.flatnonzero((every.keyframe == keyframe) & np.isin(every.point, numbers))
    points = fit.triangulated(tracks)[0][np.searchsorted(numbers, every.point[seen])]
    pixels = fit.pixels(every)[seen]
    settings = PnpSettings(inlier_px=3 * fit.given.pixel_size, noise_px=fit.noise)
    placed = solve_pnp(points, pixels, None, fit.intrinsics[keyframe], settings)
    if placed is None or placed.inliers.sum() < max(_MIN_SEEN, len(seen) / 2):
        return False
    fit.world_from_cam[keyframe] = placed.world_from_cam
    return True
