"""Whether an image shows what a map expects at a pose, and not in one half of the picture alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.landmarks.cells import grid, image_parts

Pixels = NDArray[np.floating]

CELLS = 8  # along the longer side of an image
TELLING = 5  # features that a cell shows if it could have held inliers
_HALF = 0.5  # of what was to be expected is enough
_UNKNOWN = 0.5  # of a part of which nothing is known is taken to contradict


@dataclass(frozen=True)
class Agreement:
    """fraction (0 to 1): of the cells that should confirm the pose, those that do, in the part of
    the image where fewest do; compared: how many cells, by what they should have confirmed, the
    image could be compared in.
    """

    fraction: float
    compared: float


def occupied(pixels: Pixels, size_wh: tuple[int, int]) -> tuple[Indices, Indices]:
    """Cells (n, 2), as column and row, that hold some of the pixels (m, 2) of an image, and how
    many each (n,).
    """
    cells = np.floor(pixels / (max(size_wh) / CELLS)).astype(np.int64).reshape(-1, 2)
    first = cells.min(0, initial=0)  # lens distortion undone moves some out of the image
    columns = int(cells[:, 0].max(initial=0) - first[0] + 1)
    counts = np.bincount((cells - first) @ [1, columns])
    numbers = np.flatnonzero(counts)
    return np.stack([numbers % columns, numbers // columns], axis=1) + first, counts[numbers]


def agreement(
    features: Pixels,
    inliers: Pixels,
    expected: Pixels,
    likelihood: Floats,
    confirmed: Mask,
    size_wh: tuple[int, int],
) -> Agreement:
    """How an image agrees with the landmarks that should be seen at a pose.

    features (m, 2) and inliers (n, 2) are pixels of all features and of those that agree with the
    pose; expected (e, 2) are the projections of the landmarks, likelihood (e,) how likely each is
    seen, by which it counts, and confirmed (e,) whether a feature shows it. How many of them an
    image confirms depends on its light and on how far it was taken from the keyframes: the fraction
    that cells with inliers confirm is what others should. A cell without features says nothing, one
    where less than two confirmations are to be expected says less. A place that holds a copy of
    something in the map confirms it and contradicts around it, so what counts is the worst part of
    the image: each half, upright, level and diagonal, the rim and what it encloses. A part with
    features of which the map knows nothing agrees by half.
    """
    cells, counts = occupied(features, size_wh)
    cells = cells[(counts >= TELLING) & (cells >= 0).all(1) & (cells < grid(size_wh, CELLS)).all(1)]
    where = _numbers(expected, cells, size_wh)
    known = where >= 0
    count = np.bincount(where[known], likelihood[known], minlength=len(cells))
    found = np.bincount(where[known], (likelihood * confirmed)[known], minlength=len(cells))
    held = _numbers(inliers, cells, size_wh)
    trusted = np.zeros(len(cells), dtype=bool)
    trusted[held[held >= 0]] = True
    typical = found[trusted].sum() / max(count[trusted].sum(), 1.0)
    wanted = _HALF * typical * count
    weight = np.minimum(1.0, wanted)
    agreed = np.minimum(weight, found / np.maximum(wanted, 1.0))
    parts = image_parts(cells, grid(size_wh, CELLS)).astype(np.float64)
    unknown = parts @ (1 - weight) / (parts.sum(1) + 1)  # fraction of the cells with features
    # One more cell, so that a part of which little is known does not decide.
    fractions = (parts @ agreed + 1 - _UNKNOWN * unknown) / (parts @ weight + 1)
    return Agreement(float(fractions.min()), float(weight.sum()))


def _numbers(pixels: Pixels, cells: Indices, size_wh: tuple[int, int]) -> Indices:
    """For each of pixels (m, 2) the number of its cell among `cells` (n, 2) of the image, -1 where
    there is none.
    """
    columns, rows = grid(size_wh, CELLS)
    number = np.full((columns, rows), -1)
    number[cells[:, 0], cells[:, 1]] = np.arange(len(cells))
    own = np.floor(pixels / (max(size_wh) / CELLS)).astype(np.int64)
    inside = ((own >= 0) & (own < [columns, rows])).all(1)
    numbers = np.full(len(pixels), -1)
    numbers[inside] = number[own[inside, 0], own[inside, 1]]
    return numbers
