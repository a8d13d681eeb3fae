"""Pillow's resizing of 8-bit images, equal to it in every bit, on the device where the image is.

Written anew after Pillow's documentation and its `Resample.c`: the weights of a filter are rounded
to 22 binary digits, and pixels to 8 bits after each of two passes, first along the rows, then along
the columns. Sums are of whole numbers, so that no device rounds otherwise.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats

Filter = Literal["bicubic", "lanczos"]
_DIGITS = 22  # binary digits of a weight behind the point
_HALF = 1 << (_DIGITS - 1)
_SUPPORT = {"bicubic": 2.0, "lanczos": 3.0}  # pixels to either side that a filter reaches
_KEPT = 16  # taps of as many resizings are remembered


class Taps(NamedTuple):
    """How the pixels of a line are made of those of a longer or shorter one: pixel i is the sum
    over t of source pixel places[t, i] times weights[t, i], in units of 2^-22. Both (T, n) int32.
    """

    places: Tensor
    weights: Tensor

    @staticmethod
    def of(before: int, after: int, method: Filter) -> Taps:
        """Those of a line of `before` pixels that gets `after`; on the CPU.

        When it gets shorter the filter is as much wider, as against aliasing. Weights of a pixel
        are normalised to a sum of 1 before they are rounded, halves away from zero. Raises
        InputError for lines without pixels.
        """
        if before < 1 or after < 1:
            raise InputError(
                f"a line of {before} pixels cannot get {after}; give sizes of at least 1"
            )
        scale = before / after
        width = max(scale, 1.0)
        reach = _SUPPORT[method] * width
        centres = (np.arange(after) + 0.5) * scale
        first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
        end = np.minimum((centres + reach + 0.5).astype(np.int64), before)
        places = first + np.arange((end - first).max())[:, None]  # (T, n)
        values = _filtered((places - centres + 0.5) * (1.0 / width), method)
        values[places >= end] = 0.0
        values /= values.cumsum(0)[-1]  # in order, as sum() would not be
        weights = np.trunc(values * (1 << _DIGITS) + np.copysign(0.5, values))
        return Taps(
            torch.from_numpy(np.minimum(places, before - 1).astype(np.int32)),
            torch.from_numpy(weights.astype(np.int32)),
        )


class Resampler:
    """Resizes images on a device, and remembers how, for the sizes that it met last."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._taps: dict[tuple[int, int, int, int, Filter], Taps] = {}
        # a GPU may multiply by 1 / 255 where a CPU divides
        self._fractions = (torch.arange(256).float() / 255).to(device)

    def resized(
        self,
        image: Tensor,
        size: tuple[int, int],
        method: Filter,
        start: tuple[int, int] = (0, 0),
        target: tuple[int, int] | None = None,
    ) -> Tensor:
        """An image (H, W, 3) uint8 on the device, resized to `size`, as (h, w, 3) uint8.

        Of the result only the part of size `target` that begins at `start` is made, all of it by
        default. Sizes are (width, height), positions (x, y). Raises InputError for an image of
        another kind.
        """
        if image.dim() != 3 or image.dtype != torch.uint8:
            raise InputError(
                f"an image to resize must be (H, W, 3) uint8; got {tuple(image.shape)}"
                f" {image.dtype}"
            )
        across, down = target or size
        columns = self._kept(image.shape[1], size[0], start[0], across, method)
        rows = self._kept(image.shape[0], size[1], start[1], down, method)
        return _pass(_pass(image, columns, 1), rows, 0)

    def fractions(self, pixels: Tensor) -> Tensor:
        """Pixels (H, W, 3) uint8 on the device as (3, H, W) float in [0, 1], divided by 255 as on a
        CPU.
        """
        return self._fractions[pixels.permute(2, 0, 1).long()]

    def _kept(self, before: int, after: int, start: int, length: int, method: Filter) -> Taps:
        """Taps of a part of a resized line, on the device; computed and sent when they are new."""
        key = (before, after, start, length, method)
        if key not in self._taps:
            if len(self._taps) == _KEPT:
                del self._taps[next(iter(self._taps))]
            part = slice(start, start + length)
            places, weights = Taps.of(before, after, method)
            self._taps[key] = Taps(
                places[:, part].contiguous().to(self.device),
                weights[:, part].contiguous().to(self.device),
            )
        return self._taps[key]


def _pass(pixels: Tensor, taps: Taps, dim: int) -> Tensor:
    """Pixels (H, W, 3) uint8 resampled along an axis."""
    shape = list(pixels.shape)
    shape[dim] = taps.places.shape[1]
    sums = torch.full(shape, _HALF, dtype=torch.int32, device=pixels.device)
    weights = taps.weights.view(*taps.weights.shape, *[1] * (2 - dim))
    for places, weight in zip(taps.places, weights, strict=True):
        sums.addcmul_(pixels.index_select(dim, places), weight)
    return (sums >> _DIGITS).clamp_(0, 255).to(torch.uint8)


def _filtered(distances: Floats, method: Filter) -> Floats:
    """Values of a filter at distances in pixels."""
    if method == "lanczos":
        inside = (distances >= -3) & (distances < 3)
        return np.where(inside, _sinc(distances) * _sinc(distances / 3), 0.0)
    x = np.abs(distances)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _sinc(x: Floats) -> Floats:
    angles = np.where(x == 0, 1.0, x * np.pi)
    return np.where(x == 0, 1.0, np.sin(angles) / angles)
