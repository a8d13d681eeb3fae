"""Values carried on from where they are known into where they are not, but not across the edges of
an image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

_SMOOTH = 0.2  # weight of a difference between neighbours, beside that of a known value
_EDGE = 0.05  # difference of grey values at which it has fallen to 1/e
_MIN_WEIGHT = 1e-6  # keeps what is known nowhere determined
_STEPS = 40


def carried_on(values: Tensor, weight: Tensor, guide: Tensor) -> Tensor:
    """Values (B, L, h, w), known where weight (B, 1, h, w) is above 0, at every pixel (B, L, h, w).

    Screened Poisson at half size: least squares of differences to known values and between
    neighbours, these weaker where the guide (B, 1, h, w), grey in [0, 1], changes. Conjugate
    gradients from a pyramid's first guess.
    """
    size = values.shape[-2:]
    weight_half = _half(weight)
    values_half = _half(values * weight) / weight_half.clamp(min=1e-9)
    right, down = edge_weights(_half(guide))
    start = _spread(values_half, weight_half)
    solved = _solve(values_half, weight_half, _SMOOTH * right, _SMOOTH * down, start)
    return interpolate(solved, size=size, mode="bilinear", align_corners=False)


def edge_weights(guide: Tensor) -> tuple[Tensor, Tensor]:
    """How strongly pixels of (B, 1, h, w) hang together with their right and lower neighbours, 0 to
    1.
    """
    right = torch.exp(-(guide[..., 1:] - guide[..., :-1]).abs() / _EDGE)
    down = torch.exp(-(guide[..., 1:, :] - guide[..., :-1, :]).abs() / _EDGE)
    return right, down


def _half(values: Tensor) -> Tensor:
    return avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    """A first guess: the weighted mean of a neighbourhood that grows until something is known in
    it.
    """
    if min(values.shape[-2:]) <= 2:
        total = weight.sum((-2, -1), keepdim=True)
        return ((values * weight).sum((-2, -1), keepdim=True) / total.clamp(min=1e-9)).expand_as(
            values
        )
    coarse_weight = _half(weight)
    coarse = _spread(_half(values * weight) / coarse_weight.clamp(min=1e-9), coarse_weight)
    around = interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    return (values * weight + 0.05 * around) / (weight + 0.05)


def _solve(values: Tensor, weight: Tensor, right: Tensor, down: Tensor, start: Tensor) -> Tensor:
    """Conjugate gradients, preconditioned by the diagonal, all images and channels at once."""
    diagonal = weight + _MIN_WEIGHT
    diagonal[..., :-1] += right
    diagonal[..., 1:] += right
    diagonal[..., :-1, :] += down
    diagonal[..., 1:, :] += down

    def applied(x: Tensor) -> Tensor:
        product = diagonal * x
        product[..., :-1] -= right * x[..., 1:]
        product[..., 1:] -= right * x[..., :-1]
        product[..., :-1, :] -= down * x[..., 1:, :]
        product[..., 1:, :] -= down * x[..., :-1, :]
        return product

    x = start.clone()
    residual = weight * values - applied(x)
    scaled = residual / diagonal
    direction = scaled
    energy = (residual * scaled).sum((-2, -1), keepdim=True)
    for _ in range(_STEPS):
        product = applied(direction)
        length = energy / (direction * product).sum((-2, -1), keepdim=True).clamp(min=1e-20)
        x = x + length * direction
        residual = residual - length * product
        scaled = residual / diagonal
        new = (residual * scaled).sum((-2, -1), keepdim=True)
        direction = scaled + new / energy.clamp(min=1e-20) * direction
        energy = new
    return x
