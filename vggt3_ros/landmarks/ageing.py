"""Which landmarks of a map have gone, by what verified poses should have seen of them and did not.

Each landmark is in one of two states, there or gone, and the log of the odds of having gone is
followed from view to view (a hidden Markov model, filtered): a miss speaks for it by how likely the
landmark was to be found, a find against it by much more. Three things keep a map from being erased:
one landmark by itself never suffices, since a fifth of those that are there are hard to find; those
around it have to be missed as well, as things go as a whole. It takes several views. And a view
counts only if it shows a good part of the landmarks that are there by what all views tell, and by
how large that part is: one that is dark, blurred or wrong says little or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.sighting import Sighting

MIN_VIEWS = 3  # that have to miss a landmark, since one found it
_TELLS = 0.2  # likelihood of being found, from which a view that misses it is counted
_MIN_FOUND = 30  # landmarks in a view; dark and blurred images show fewer
# Of the landmarks that a view should find, as far as they are there, the fraction it does find:
_MIN_RATE = 0.2  # before it is known what has gone ...
_MIN_RATE_OF_THERE = 0.4  # ... and after
_PASSES = 5  # what has gone tells how much a view finds, which tells what has gone; then it settles
_BY_CHANCE = 0.02  # how likely something else is taken for a landmark that has gone
_HARD = 0.2  # of the landmarks that are there are hard to find, whatever keyframes say
_RETURNS = 3.0  # log odds for being there that finds can amount to: things may go later
_OWN = 0.7  # log odds that a landmark's own misses have to amount to ...
_PATCH = 7.0  # ... and those of it and its neighbours
_NEIGHBOURS = 8
REACH = 0.08  # of the map's usual distance to landmarks, within which neighbours are
_LIKELIEST = 0.95
_LEAST = 0.05


@dataclass(frozen=True, eq=False)
class Examined:
    """What views say of N landmarks: which have gone (N,), which were looked for often enough to
    tell (N,), and how many views were believed of how many.
    """

    gone: Mask
    looked_for: Mask
    believed: int
    views: int


def examine(landmarks: Landmarks, views: Sequence[Sighting]) -> Examined:
    """Which landmarks have gone, by views in the order in which they were taken."""
    count = len(landmarks)
    there: Floats = np.ones(count)
    neighbours = _neighbours(landmarks)
    believed = 0
    odds = _Odds(count)
    for least in (_MIN_RATE, *[_MIN_RATE_OF_THERE] * (_PASSES - 1)):
        odds = _Odds(count)
        believed = 0
        for view in views:
            rate = _rate(view, there)
            if view.found.sum() >= _MIN_FOUND and rate >= least:
                odds.see(view, rate)
                believed += 1
        there = odds.there(neighbours)
    return Examined(odds.gone(neighbours), odds.looked_for, believed, len(views))


def _rate(view: Sighting, there: Floats) -> float:
    """How many landmarks a view finds of those that it should, as likely as each is there (N,): 0
    to 1.
    """
    likely = there[view.landmarks]
    wanted = float((likely * view.likelihood).sum())
    return min(1.0, float((likely * view.found).sum()) / wanted) if wanted > 0 else 0.0


def _neighbours(landmarks: Landmarks) -> np.ndarray:
    """Each landmark and those nearest to it: (N, 1 + 8), N where there is none within reach."""
    from scipy.spatial import cKDTree

    if len(landmarks) == 0:
        return np.zeros((0, 1 + _NEIGHBOURS), np.int64)
    positions = landmarks.positions.astype(np.float64)
    reach = REACH * landmarks.usual_distance
    _, near = cKDTree(positions).query(positions, 1 + _NEIGHBOURS, distance_upper_bound=reach)
    return np.asarray(near)


class _Odds:
    """Log odds (N,) of having gone, and how many views missed each landmark since one found it."""

    def __init__(self, count: int) -> None:
        self._odds: Floats = np.zeros(count)
        self._missed = np.zeros(count, np.int64)
        self._telling = np.zeros(count, np.int64)

    def see(self, view: Sighting, rate: float) -> None:
        """One more view, which finds so much of what is there."""
        which = view.landmarks
        likely = np.clip(rate * view.likelihood.astype(np.float64), 0.0, _LIKELIEST)
        for_there = np.where(
            view.found,
            np.log(np.maximum(likely, _LEAST) / _BY_CHANCE),
            np.log((1 - likely) / (1 - _BY_CHANCE)),
        )
        self._odds[which] = np.maximum(-_RETURNS, self._odds[which] - for_there)
        tells = likely >= _TELLS
        self._telling[which] += tells | view.found
        self._missed[which] = np.where(view.found, 0, self._missed[which] + tells)

    @property
    def looked_for(self) -> Mask:
        """Which landmarks enough views tell of."""
        enough: Mask = self._telling >= MIN_VIEWS
        return enough

    def gone(self, neighbours: np.ndarray) -> Mask:
        """Which landmarks have gone, with those around them (N, 1 + 8)."""
        patch = self._of_patches(neighbours)
        gone: Mask = (patch > _PATCH) & (self._odds > _OWN) & (self._missed >= MIN_VIEWS)
        return gone

    def there(self, neighbours: np.ndarray) -> Floats:
        """How likely landmarks are there, with those around them (N, 1 + 8): 0 to 1."""
        there: Floats = 1 / (1 + np.exp(np.clip(self._of_patches(neighbours), -50, 50)))
        return there

    def _of_patches(self, neighbours: np.ndarray) -> Floats:
        """Log odds (N,) of landmarks and those around them (N, 1 + 8), each bounded by that it may
        be one that is hard to find.
        """
        misses = np.maximum(self._odds, 0.0)
        bounded = -np.log(_HARD + (1 - _HARD) * np.exp(-misses))
        own = np.minimum(self._odds, bounded)
        patch: Floats = np.append(own, 0.0)[neighbours].sum(1)
        return patch
