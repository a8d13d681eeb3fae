"""Whether an image shows what a map expects at a pose, and not in one half of the picture alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.floating]

CELLS = 8  # along the longer side of an image
TELLING = 5  # features that a cell shows if it could have held inliers
_HALF = 0.5  # of what was to be expected is enough


@dataclass(frozen=True)
class Agreement:
    """share (0 to 1): of the cells that should confirm the pose, those that do, in the part of the image where fewest
    do; compared: how many cells, by what they should have confirmed, the image could be compared in.
    """

    share: float
    compared: float


def occupied(pixels: Pixels, size_wh: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells (n, 2), as column and row, that hold some of the pixels (m, 2) of an image, and how many each (n,)."""
    cells = np.floor(pixels / (max(size_wh) / CELLS)).astype(np.int64).reshape(-1, 2)
    first = cells.min(0, initial=0)  # lens distortion undone moves some out of the image
    columns = int(cells[:, 0].max(initial=0) - first[0] + 1)
    counts = np.bincount((cells - first) @ [1, columns])
    numbers = np.flatnonzero(counts)
    return np.stack([numbers % columns, numbers // columns], axis=1) + first, counts[numbers]


def agreement(
    features: Pixels, inliers: Pixels, expected: Pixels, confirmed: NDArray[np.bool_], size_wh: tuple[int, int]
) -> Agreement:
    """How an image agrees with the landmarks that should be seen at a pose.

    features (m, 2) and inliers (n, 2) are pixels of all features and of those that led to the pose; expected (e, 2) are
    the projections of the landmarks, confirmed (e,) whether a feature shows them. How many of them an image confirms
    depends on its light and on how far it was taken from the keyframes: the share that cells with inliers confirm is
    what others should. A cell without features says nothing, one where less than two confirmations are to be expected
    says less. A place that holds a copy of something in the map confirms it and contradicts around it, so what counts
    is the worst part of the image: each half, upright, level and diagonal, the rim and what it encloses.
    """
    cells, counts = occupied(features, size_wh)
    cells = cells[counts >= TELLING]
    where = _numbers(expected, cells, size_wh)
    known = where >= 0
    count = np.bincount(where[known], minlength=len(cells)).astype(np.float64)
    found = np.bincount(where[known], confirmed[known].astype(np.float64), minlength=len(cells))
    held = _numbers(inliers, cells, size_wh)
    trusted = np.zeros(len(cells), dtype=bool)
    trusted[held[held >= 0]] = True
    share = found[trusted].sum() / max(count[trusted].sum(), 1.0)
    wanted = _HALF * share * count
    weight = np.minimum(1.0, wanted)
    agreed = np.minimum(weight, found / np.maximum(wanted, 1.0))
    parts = _parts(cells, size_wh).astype(np.float64)
    # One more cell that agrees, so that a part of which little is known does not decide.
    shares = (parts @ agreed + 1) / (parts @ weight + 1)
    return Agreement(float(shares.min()), float(weight.sum()))


def _numbers(pixels: Pixels, cells: NDArray[np.int64], size_wh: tuple[int, int]) -> NDArray[np.int64]:
    """For each of pixels (m, 2) the number of its cell among `cells` (n, 2), -1 where it is none of them."""
    columns, rows = np.ceil(np.array(size_wh) / (max(size_wh) / CELLS)).astype(np.int64)
    number = np.full((columns, rows), -1)
    inside = ((cells >= 0) & (cells < [columns, rows])).all(1)
    number[cells[inside, 0], cells[inside, 1]] = np.flatnonzero(inside)
    own = np.floor(pixels / (max(size_wh) / CELLS)).astype(np.int64)
    inside = ((own >= 0) & (own < [columns, rows])).all(1)
    numbers = np.full(len(pixels), -1)
    numbers[inside] = number[own[inside, 0], own[inside, 1]]
    return numbers


def _parts(cells: NDArray[np.int64], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Which of the cells (n, 2) lie in each part of the image: (10, n)."""
    last = np.ceil(np.array(size_wh) / (max(size_wh) / CELLS)) - 1
    x, y = (cells / np.maximum(last, 1) - 0.5).T  # -0.5 to 0.5 from the first cell to the last
    sides = np.stack([x, y, x + y, x - y])
    rim = ((cells <= 0) | (cells >= last)).any(1)
    parts: NDArray[np.bool_] = np.concatenate([sides < 0, sides > 0, [rim, ~rim]])
    return parts
