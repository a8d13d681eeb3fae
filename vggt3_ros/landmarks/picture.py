"""An image in coarse cells: what its colours are, to be compared with those of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.landmarks.cells import grid
from vggt3_ros.landmarks.undistort import undistorted_pixels

CELLS = 32  # along the longer side of an image
_SAMPLES = 2  # per cell and axis, each the mean of its pixels
_TEXTURE = 1.0  # grey levels by which pixels deviate in a cell that shows anything


@dataclass(frozen=True, eq=False)
class Picture:
    """Mean colours (rows, columns, 3), grey levels of RGB, of the cells of an image of size_wh
    without lens distortion; shows (rows, columns): whether there is anything to be seen in a cell,
    as there is not before a covered lens, in the glare of a lamp, or beyond the rim of the image.
    """

    size_wh: tuple[int, int]
    colours: Floats
    shows: Mask

    @classmethod
    def of(
        cls,
        image: NDArray[np.uint8],
        intrinsics: Floats | None = None,
        distortion: Distortion | None = None,
    ) -> Picture:
        """Of an image (H, W, 3); its lens distortion, with the intrinsics (3, 3), is undone."""
        import cv2

        height, width = image.shape[:2]
        columns, rows = grid((width, height), CELLS)
        size = (_SAMPLES * columns, _SAMPLES * rows)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey -= grey.mean()  # single precision is enough for squares of what is small
        colours = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        mean = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        square = cv2.resize(grey * grey, size, interpolation=cv2.INTER_AREA)
        x, y = np.meshgrid(
            (np.arange(size[0]) + 0.5) * width / size[0] - 0.5,
            (np.arange(size[1]) + 0.5) * height / size[1] - 0.5,
        )
        pixels = np.stack([x.ravel(), y.ravel()], axis=1)
        if distortion is not None and intrinsics is not None:
            pixels = undistorted_pixels(pixels, intrinsics, distortion)
        cell, inside = cell_numbers(pixels, (width, height))
        count = np.bincount(cell[inside], minlength=columns * rows)
        samples = np.dstack([colours, mean, square]).reshape(-1, 5)[inside]
        sums = [np.bincount(cell[inside], each, minlength=columns * rows) for each in samples.T]
        averages = np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
        variance = averages[:, 4] - averages[:, 3] ** 2
        return cls(
            (width, height),
            averages[:, :3].reshape(rows, columns, 3),
            ((count > 0) & (variance > _TEXTURE**2)).reshape(rows, columns),
        )


def cell_numbers(
    pixels: NDArray[np.floating], size_wh: tuple[int, int]
) -> tuple[NDArray[np.int64], Mask]:
    """For each of pixels (n, 2) the number of its cell, row by row, and whether it lies in the
    image.
    """
    columns, rows = grid(size_wh, CELLS)
    width, height = size_wh
    x, y = pixels.T
    inside: Mask = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    own = np.where(inside[:, None], (pixels + 0.5) / (max(size_wh) / CELLS), 0.0).astype(np.int64)
    return own[:, 1].clip(0, rows - 1) * columns + own[:, 0].clip(0, columns - 1), inside
