"""Images averaged down to the size that is matched, and the intrinsics of the averaged pixels."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SIDE = 16  # pixels of an image that can be matched


def working_size(size_hw: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Size (height, width) whose longer side has at most `long_side` pixels, more where the shorter
    one would have less than MIN_SIDE; images are never enlarged.
    """
    factor = min(1.0, max(long_side / max(size_hw), MIN_SIDE / min(size_hw)))
    return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))


def averaged(images: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Images (..., H, W), each pixel the mean of the area it covers in the given ones: (...,
    *size_hw).
    """
    down = _overlaps(images.shape[-2], size_hw[0]).to(images)
    across = _overlaps(images.shape[-1], size_hw[1]).to(images)
    return down @ (images @ across.T)


def averaged_intrinsics(
    intrinsics: Tensor, before_hw: tuple[int, int], after_hw: tuple[int, int]
) -> Tensor:
    """Intrinsics (..., 3, 3) of averaged images; pixel centres lie at whole numbers before and
    after.
    """
    after_from_before = torch.eye(3, dtype=intrinsics.dtype, device=intrinsics.device)
    for axis, (before, after) in enumerate(
        zip(reversed(before_hw), reversed(after_hw), strict=True)
    ):
        after_from_before[axis, axis] = after / before
        after_from_before[axis, 2] = 0.5 * after / before - 0.5
    return after_from_before @ intrinsics


def _overlaps(before: int, after: int) -> Tensor:
    """Share (after, before) of each new pixel's extent that each old pixel covers."""
    step = before / after
    first = torch.arange(after, dtype=torch.float64)[:, None] * step
    old = torch.arange(before, dtype=torch.float64)
    covered = torch.minimum(first + step, old + 1) - torch.maximum(first, old)
    return covered.clamp(min=0) / step
