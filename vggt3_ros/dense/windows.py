"""Means, medians and extremes of small windows; at the border a window is what lies within the
image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

_FAR = 1e9  # a value that nothing is near


def box_sum(
    values: Tensor, radius: int, partial: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Sums over windows of 2 * radius + 1 pixels a side of (..., h, w).

    Shifted additions: on a CPU 3 to 13 times as fast as avg_pool2d. partial, out: memory of the
    size of the values that may be written, out with the result.
    """
    return _over_windows(values, radius, torch.add, partial, out)


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Means over windows of 2 * radius + 1 pixels a side of (..., h, w)."""
    return box_sum(values, radius) / box_sum(
        torch.ones_like(values[(0,) * (values.dim() - 2)]), radius
    )


def _over_windows(
    values: Tensor,
    radius: int,
    join: Callable[..., Tensor],
    partial: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The values of each window joined, two by two, by an operation such as torch.add."""
    return _beside(_beside(values, -1, radius, join, partial), -2, radius, join, out)


def _beside(
    values: Tensor, axis: int, radius: int, join: Callable[..., Tensor], out: Tensor | None
) -> Tensor:
    """Each value joined with those up to `radius` before and after it along an axis."""
    total = values.clone() if out is None else out.copy_(values)
    size = values.shape[axis]
    for shift in range(1, min(radius, size - 1) + 1):
        front = total.narrow(axis, 0, size - shift)
        back = total.narrow(axis, shift, size - shift)
        join(front, values.narrow(axis, shift, size - shift), out=front)
        join(back, values.narrow(axis, 0, size - shift), out=back)
    return total


def median3(values: Tensor) -> Tensor:
    """Median of 3 x 3 pixels of (B, h, w).

    With each column in order it is the median of three: the largest of the low values, the median
    of the middle ones and the smallest of the high ones.
    """
    padded = pad(values[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    height, width = values.shape[-2:]
    rows = [padded[:, r : r + height] for r in range(3)]

    def columns(values: Tensor) -> list[Tensor]:
        return [values[..., c : c + width] for c in range(3)]

    low, middle, high = map(columns, _in_order(*rows))
    largest_low = torch.maximum(torch.maximum(low[0], low[1]), low[2])
    smallest_high = torch.minimum(torch.minimum(high[0], high[1]), high[2])
    return _in_order(largest_low, _in_order(*middle)[1], smallest_high)[1]


def _in_order(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least, the middle and the largest of three values, at every place."""
    low = torch.minimum(first, second)
    high = torch.maximum(first, second)
    middle = torch.maximum(low, torch.minimum(high, third))
    return torch.minimum(low, third), middle, torch.maximum(high, third)


def largest(values: Tensor, radius: int) -> Tensor:
    """Largest value of each window of (B, h, w)."""
    return _over_windows(values, radius, torch.maximum)


def smallest(values: Tensor, radius: int) -> Tensor:
    """Smallest value of each window of (B, h, w)."""
    return _over_windows(values, radius, torch.minimum)


def near_mean(values: Tensor, radius: int, reach: Tensor) -> Tensor:
    """Mean (B, h, w) over each window of what differs from its middle by less than `reach` (B, 1,
    1).

    Slanted planes stay what they are, and steps stay steps.
    """
    height, width = values.shape[-2:]
    padded = pad(values[:, None], (radius,) * 4, mode="constant", value=_FAR)[:, 0]
    total = torch.zeros_like(values)
    count = torch.zeros_like(values)
    difference, near = torch.empty(2, *values.shape, device=values.device)
    for row in range(2 * radius + 1):
        for column in range(2 * radius + 1):
            beside = padded[:, row : row + height, column : column + width]
            torch.sub(beside, values, out=difference)
            torch.lt(torch.abs(difference, out=near), reach, out=near)
            total.addcmul_(difference, near)
            count += near
    return total.div_(count).add_(values)
