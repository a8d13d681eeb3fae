"""The image loader that the published models are evaluated with, pixel for pixel.

It resizes 8-bit images with Pillow, whose filters are antialiased; other libraries give other
pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Image
from vggt3_ros.pipeline.resample import Filter, Resampler


def _to_float(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def target_size(width: int, height: int, long_side: int = 518, patch: int = 14) -> tuple[int, int]:
    """Width and height after the evaluation loader: long side fixed, the other a multiple of
    patch.
    """
    aspect = width / height
    if aspect >= 1:
        return long_side, max(patch, patch * round(long_side / aspect / patch))
    return max(patch, patch * round(long_side * aspect / patch)), long_side


@dataclass(frozen=True)
class EvaluationCrop:
    """What the evaluation loader does to an image: crop about the principal point, resize, crop to
    the target.

    All sizes are (width, height), all positions (x, y), in pixels.
    """

    position: tuple[int, int]  # first crop, in the source image
    size: tuple[int, int]
    resized: tuple[int, int]
    start: tuple[int, int]  # second crop, in the resized image
    target: tuple[int, int]

    @staticmethod
    def plan(
        source: tuple[int, int],
        principal_point: tuple[float, float] | None,
        target: tuple[int, int],
        rotate: bool = True,
    ) -> EvaluationCrop:
        """Plan for an image of size `source`; without a principal point its centre is taken.

        The target is rotated upright or sideways to agree with the first crop, unless `rotate` is
        false.
        """
        centre = principal_point or (source[0] / 2, source[1] / 2)
        half = [min(extent / 2, c, extent - c) for extent, c in zip(source, centre, strict=True)]
        if min(half) < 1:
            raise InputError(
                f"the principal point {centre} lies at the border of the {source[0]}x{source[1]}"
                " image, so nothing can be cropped around it; check the intrinsics"
            )
        x, y = (math.floor(c - h) for c, h in zip(centre, half, strict=True))
        width, height = (math.floor(2 * h) for h in half)
        disagree = (
            (width > height) != (target[0] > target[1])
            and width != height
            and target[0] != target[1]
        )
        if rotate and disagree:
            target = (target[1], target[0])
        scale = max(target[0] / width, target[1] / height)
        resized = (math.ceil(width * scale), math.ceil(height * scale))
        start_x, start_y = (math.floor(r / 2 - t / 2) for r, t in zip(resized, target, strict=True))
        return EvaluationCrop((x, y), (width, height), resized, (start_x, start_y), target)

    def image(self, image: Image, resampler: Resampler | None = None) -> Tensor:
        """Apply it to an image (H, W, 3) uint8; returns (3, h, w) float in [0, 1].

        Pillow does it, or the resampler on its device, where the result then is: the same to the
        bit.
        """
        shrinks = max(self.target[0] / self.size[0], self.target[1] / self.size[1]) < 1
        method: Filter = "lanczos" if shrinks else "bicubic"
        window = _window(image, self.position, self.size)
        if resampler is None:
            resized = _resized(window, self.resized, method)
            return _to_float(_window(resized, self.start, self.target))
        there = torch.from_numpy(np.array(window)).to(resampler.device)
        pixels = resampler.resized(there, self.resized, method, self.start, self.target)
        return resampler.fractions(pixels)

    def depth(self, depth: npt.NDArray[np.float32]) -> Tensor:
        """Apply it to a depth image (H, W), taking the nearest pixel; returns (h, w) float32."""
        from PIL import Image as Pillow

        window = np.ascontiguousarray(_window(depth, self.position, self.size), dtype=np.float32)
        picture = Pillow.fromarray(window)
        resized = np.asarray(picture.resize(self.resized, _filter("NEAREST")))
        return torch.from_numpy(_window(resized, self.start, self.target).copy())

    def published_intrinsics(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics (3, 3) as the published loader changes them: one factor for both axes, no half
        pixels.

        Off by up to half a pixel; `pixels_from_source` is exact.
        """
        scale = max(after / before for after, before in zip(self.resized, self.size, strict=True))
        result = intrinsics.double().clone()
        result[:2, 2] -= torch.tensor(self.position)
        result[:2] *= scale
        result[:2, 2] -= torch.tensor(self.start)
        return result

    def pixels_from_source(self) -> Tensor:
        """Affine map (3, 3) float64 from source pixels to result pixels, centres at whole
        numbers.
        """
        result = torch.eye(3, dtype=torch.float64)
        for axis in (0, 1):
            scale = self.resized[axis] / self.size[axis]
            result[axis, axis] = scale
            result[axis, 2] = scale * (0.5 - self.position[axis]) - 0.5 - self.start[axis]
        return result


def _window(image: Any, position: tuple[int, int], size: tuple[int, int]) -> Any:
    return image[position[1] : position[1] + size[1], position[0] : position[0] + size[0]]


def _resized(image: Image, size: tuple[int, int], method: Filter) -> Any:
    """An image resized by Pillow, first along its rows and then along its columns. Pillow from 13
    on takes columns first where height shrinks most, which gives other pixels.
    """
    from PIL import Image as Pillow

    name = _filter(method.upper())
    along_rows = Pillow.fromarray(image).resize((size[0], image.shape[0]), name)
    return np.asarray(along_rows.resize(size, name))


def _filter(name: str) -> Any:
    """A filter of Pillow's, from where all versions have it: `Resampling` came with 9.1."""
    from PIL import Image as Pillow

    return getattr(Pillow, name)
