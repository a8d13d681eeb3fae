"""Images of one camera in several sizes: which sizes are the same image, and frames brought to one
of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.pipeline.frame import Frame

_SizeHW: TypeAlias = tuple[int, int]


def same_shape(one: _SizeHW, other: _SizeHW) -> bool:
    """Whether one size (height, width) is the other one scaled, but for rounding: a pixel of the
    smaller image.
    """
    small, large = sorted((one, other))
    return abs(small[0] * large[1] - small[1] * large[0]) <= max(large)


def usual_size(sizes: Iterable[_SizeHW]) -> _SizeHW:
    """The most frequent size (height, width) of the most frequent shape; of equally frequent ones
    the first.
    """
    counts = Counter(sizes)

    def frequency(size: _SizeHW) -> tuple[int, int]:
        return sum(counts[other] for other in counts if same_shape(size, other)), counts[size]

    return max(counts, key=frequency)


def most_like(size: _SizeHW, others: Sequence[_SizeHW]) -> int:
    """Index of the size (height, width) whose shape is most like this one's; of several the
    first.
    """
    differences = [abs(math.log(size[0] * other[1] / (size[1] * other[0]))) for other in others]
    return differences.index(min(differences))


def resized(frame: Frame, size_hw: _SizeHW) -> Frame:
    """The frame as a camera of this many pixels would have taken it; calibration and depth follow.

    The coefficients of the distortion stay: they belong to the lens. Each pixel takes the depth of
    the nearest one, because the mean of two depths lies on neither surface.
    """
    import cv2

    if frame.size_hw == size_hw:
        return frame
    height, width = size_hw
    method = cv2.INTER_AREA if height < frame.size_hw[0] else cv2.INTER_CUBIC
    return replace(
        frame,
        image=np.asarray(
            cv2.resize(frame.image, (width, height), interpolation=method), dtype=np.uint8
        ),
        intrinsics=None
        if frame.intrinsics is None
        else resized_intrinsics(frame.intrinsics, frame.size_hw, size_hw),
        depth=None
        if frame.depth is None
        else frame.depth[np.ix_(*_nearest(frame.size_hw, size_hw))],
    )


def resized_intrinsics(intrinsics: Tensor, before_hw: _SizeHW, after_hw: _SizeHW) -> Tensor:
    """Intrinsics (3, 3) float64 of an image that was resized; pixel centres lie at whole numbers
    before and after.
    """
    after_from_before = torch.eye(3, dtype=torch.float64)
    for axis, (before, after) in enumerate(
        zip(reversed(before_hw), reversed(after_hw), strict=True)
    ):
        scale = after / before
        after_from_before[axis, axis] = scale
        after_from_before[axis, 2] = 0.5 * scale - 0.5
    return after_from_before @ intrinsics


def _nearest(before_hw: _SizeHW, after_hw: _SizeHW) -> list[np.ndarray]:
    """Rows and columns of the pixels that lie nearest to those of the resized image."""
    return [
        ((np.arange(after) + 0.5) * before / after).astype(int)
        for before, after in zip(before_hw, after_hw, strict=True)
    ]
