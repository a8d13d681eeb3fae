"""Cells that images are divided into."""

from __future__ import annotations

import math

import numpy as np

from vggt3_ros.geometry.arrays import Indices, Mask


def grid(size_wh: tuple[int, int], along: int) -> tuple[int, int]:
    """Columns and rows of square cells of an image, `along` of them along its longer side."""
    width, height = size_wh
    return math.ceil(along * width / max(size_wh)), math.ceil(along * height / max(size_wh))


def image_parts(cells: Indices, columns_rows: tuple[int, int]) -> Mask:
    """Which of the cells (n, 2), as column and row of a grid that has so many, lie in each part of
    the image: each half, upright, level and diagonal, the rim and what it encloses (10, n).
    """
    last = np.array(columns_rows) - 1
    x, y = (cells / np.maximum(last, 1) - 0.5).T  # -0.5 to 0.5 from the first cell to the last
    sides = np.stack([x, y, x + y, x - y])
    rim = ((cells <= 0) | (cells >= last)).any(1)
    parts: Mask = np.concatenate([sides < 0, sides > 0, [rim, ~rim]])
    return parts
