"""Which poses a map is made of: those given, or those that the images agree with."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event

import numpy as np

from vggt3_ros.landmarks.adjusting import (
    USUAL,
    adjusted,
    brought_back,
    held,
    is_at_exact_priors,
)
from vggt3_ros.landmarks.fit import Fit, Given
from vggt3_ros.landmarks.incremental import placed_by_images
from vggt3_ros.landmarks.leave_one_out import Predictions, predictions
from vggt3_ros.progress import Progress

# mean log ratio of errors of position plus that of rotation, from which adjusted poses are better
_BETTER = 0.5
# Held poses whose images fit that much worse than adjusted ones, and by more than so many pixels of
# the searched image, have to predict better: of ten maps of rooms with priors 3 cm and 1 degree
# off, two were held before, which fitted 18 and 20 times worse. Exact poses of three real sequences
# fit 2 to 3 times worse, at most 1 pixel off.
_FITS_BADLY = 5.0
_FITS_BADLY_PX = 1.5
# of the keyframes that adjusted poses predict: held ones that predict fewer are not compared
_MIN_PREDICTED = 0.8
# Per axis: where images and a reference disagree, adjusted poses of three real cameras were 0.35 to
# 0.75 degrees off.
_SHARED_ANGLE = np.radians(0.4)
_FEW = 3  # predictions below which nothing is compared
# of a pixel of the searched image: noise up to which poses are held that cannot be compared
_FITTING = 1.0
_MIN_PLACED = 0.5  # of the keyframes
_WIDER = 10.0  # deviations beyond which a prior loses its say, where it keeps it for longer


def fitted(given: Given, progress: Progress) -> Fit:
    """Poses of the keyframes, held as given or adjusted (see LandmarkSettings.hold_priors), with
    their covariances.
    """
    settings = given.settings
    explicit = settings.position_sigma is not None or settings.rotation_sigma is not None
    if not given.anchored or settings.hold_priors is False or explicit:
        return _doubted(_adjusted(given, progress))
    if settings.hold_priors and given.measured.all():
        still = held(given, given.world_from_cam, progress)
        return _doubted(still, predictions(still))
    still, moved = _held_and_adjusted(given, lambda fraction: progress(0.9 * fraction))
    # what no prior tells may have rolled away from held poses
    if not given.measured.all():
        again = held(given, moved.world_from_cam, lambda fraction: progress(0.9 + 0.1 * fraction))
        still = _cheapest([still, again])
    if settings.hold_priors:
        return _doubted(still, predictions(still))
    with ThreadPoolExecutor(2) as pool:
        predicted, by_moved = pool.map(predictions, [still, moved])
    if as_good(still, predicted, moved, by_moved):
        return _doubted(still, predicted)
    return _doubted(moved)


def _held_and_adjusted(given: Given, progress: Progress) -> tuple[Fit, Fit]:
    """Poses held as given, and adjusted, at the same time. What progress raises ends both."""
    ended = Event()

    def checked(fraction: float) -> None:
        if ended.is_set():
            raise CancelledError
        progress(fraction)

    def follow(fraction: float) -> None:
        if moving.done():
            moving.result()  # raises what has ended it

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(_adjusted, given, checked)
        try:
            return held(given, given.world_from_cam, follow), moving.result()
        except BaseException:
            ended.set()
            raise


def as_good(still: Fit, predicted: Predictions, moved: Fit, by_moved: Predictions) -> bool:
    """Whether held poses are predicted about as well as by adjusted keyframes: by noise alone the
    latter may win.
    """
    both = predicted.known & by_moved.known
    if by_moved.known.sum() < _FEW:
        return still.noise < _FITTING * still.given.pixel_size
    if predicted.known.sum() < max(_MIN_PREDICTED * by_moved.known.sum(), _FEW) or not both.any():
        return False
    ratio = np.log((predicted.errors[both] + 1e-12) / (by_moved.errors[both] + 1e-12))
    fits_badly = still.noise > max(
        _FITS_BADLY * moved.noise, _FITS_BADLY_PX * still.given.pixel_size
    )
    fits_badly &= moved.converged  # otherwise there is no adjusted map
    return bool(ratio.mean(0).sum() < (0.0 if fits_badly else _BETTER))


def _doubted(fit: Fit, predicted: Predictions | None = None) -> Fit:
    """The fit with its map_sigmas: how far held poses are missed where they are predicted,
    otherwise the errors that all images share.
    """
    angle = max(_SHARED_ANGLE, fit.noise / float(np.median(fit.intrinsics[:, 0, 0])))
    sigmas = np.array([angle * fit.depth(), angle])
    if predicted is not None:
        if predicted.known.sum() >= _FEW:
            sigmas = predicted.sigmas()
        fit.sigmas = float(sigmas[0]), float(sigmas[1])
    fit.map_sigmas = float(sigmas[0]), float(sigmas[1])
    return fit


def _adjusted(given: Given, progress: Progress) -> Fit:
    """The cheapest of several adjustments, for each ends where its first rounds have rolled what
    little ties.

    From the given poses on; that is all where they stay at exact priors. With priors that keep
    their say for longer; where the given poses fitted the images badly, from the images alone; from
    a result brought back to the priors as a whole, where its scale or place had left them; and
    again after the keyframes that contradict their priors were put back to them.
    """
    parts = _Parts(progress, 6 if given.anchored else 2)
    fit, rough = adjusted(given, given.world_from_cam, parts.next())
    if is_at_exact_priors(fit):
        return fit
    choices = [fit]
    if given.anchored:
        choices.append(adjusted(given, given.world_from_cam, parts.next(), prior_outlier=_WIDER)[0])
    if rough:
        found = placed_by_images(given.every, given.features, fit.intrinsics, given.world_from_cam)
        # Without priors, what images do not place stays where a guess left it: then there is no map
        # to adjust.
        if found is not None and (given.anchored or found[1].mean() >= _MIN_PLACED):
            choices.append(adjusted(given, found[0], parts.next())[0])
    fit = _cheapest(choices)
    brought = brought_back(fit, parts.next())
    if brought is not None:
        fit = _cheapest([fit, brought])
    if not fit.contradicted.any():
        return fit
    back = fit.world_from_cam.copy()
    back[fit.contradicted] = given.world_from_cam[fit.contradicted]
    again = [adjusted(given, back, parts.next(), fit.sigmas, limit)[0] for limit in (USUAL, _WIDER)]
    return _cheapest([fit, *again])


def _cheapest(fits: list[Fit]) -> Fit:
    """By one measure for all: the noise of the best, and the deviations of the first."""
    noise = min(fit.noise for fit in fits)
    return min(fits, key=lambda fit: fit.cost(noise, fits[0].sigmas))


class _Parts:
    """Progress of one piece of work after the other, of at most `count`."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress = progress
        self._count = count
        self._number = -1

    def next(self) -> Progress:
        """What the next piece reports to."""
        self._number += 1
        number = self._number
        return lambda fraction: self._progress((number + fraction) / self._count)
