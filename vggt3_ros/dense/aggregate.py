"""Semi-global matching: costs aggregated along rows and columns (Hirschmueller 2008, four
paths).
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGE = 1e3


def semi_global(cost: Tensor, step: float, jump_right: Tensor, jump_down: Tensor) -> Tensor:
    """Costs (B, D, h, w) with those of what four paths lead to: sums over the paths, divided by 4.

    step: penalty for the next label. jump_right (B, h, w - 1) and jump_down (B, h - 1, w):
    penalties for any other label between a pixel and its right or lower neighbour.
    """
    down = _along(cost.permute(2, 0, 1, 3), step, jump_down.permute(1, 0, 2))
    right = _along(cost.permute(3, 0, 1, 2), step, jump_right.permute(2, 0, 1))
    return (down.permute(1, 2, 0, 3) + right.permute(1, 2, 3, 0)) / 4


def _along(cost: Tensor, step: float, jump: Tensor) -> Tensor:
    """Sum of both directions along the first axis of costs (T, B, D, X); jump (T - 1, B, X) between
    neighbours.
    """
    length, batch, labels, across = cost.shape
    both = torch.cat([cost, cost.flip(0)], dim=1)
    jumps = torch.cat([jump, jump.flip(0)], dim=1)[:, :, None]
    # costs of the previous pixel less their least, between two labels that are never taken
    previous = both.new_full((2 * batch, labels + 2, across), _LARGE)
    before, inner, after = previous[:, :-2], previous[:, 1:-1], previous[:, 2:]
    reached = torch.empty_like(both[0])
    torch.sub(both[0], both[0].amin(1, keepdim=True), out=inner)
    for here, penalty in zip(both[1:].unbind(), jumps.unbind(), strict=True):
        torch.minimum(before, after, out=reached).add_(step)
        torch.minimum(reached, inner, out=reached)
        here += torch.minimum(reached, penalty, out=reached)
        torch.sub(here, here.amin(1, keepdim=True), out=inner)
    return both[:, :batch] + both[:, batch:].flip(0)


def winner(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The label (B, h, w) of least cost (B, D, h, w), as a fraction (the vertex of a parabola), and
    that least cost.
    """
    least, label = cost.min(dim=1, keepdim=True)
    last = cost.shape[1] - 1
    before = cost.gather(1, (label - 1).clamp(min=0))
    after = cost.gather(1, (label + 1).clamp(max=last))
    curvature = before - 2 * least + after
    fraction = ((before - after) / (2 * curvature).clamp(min=1e-6)).clamp(-0.5, 0.5)
    inner = (label > 0) & (label < last)
    return (label + torch.where(inner, fraction, 0.0))[:, 0], least[:, 0]
