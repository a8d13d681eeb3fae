"""Inverse depth of keyframes from their neighbours: coarse sweeps, then finer ones along the
surfaces they found.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vggt3_ros.dense.aggregate import semi_global, winner
from vggt3_ros.dense.matching import Matching
from vggt3_ros.dense.resize import averaged
from vggt3_ros.dense.windows import box_mean, largest, median3, near_mean, smallest

_LABELS = 64  # inverse depths of the coarse sweep
# labels of the sweep along the prior, and how far in log depth it goes each way
_ALONG_PRIOR = 25
_SPAN = 0.4
_OFFSETS = 9  # labels of a fine sweep
_STEPS = (0.5, 0.25)  # between them, in steps of the coarse sweep
_REACH = 2.0  # steps of the coarse sweep within which neighbouring pixels lie on one surface
# greatest cost, and the difference of log depth at which it is reached
_PRIOR = 0.1
_FAR_FROM_PRIOR = 0.25
# penalties of semi-global matching
_STEP = 0.04
_COARSE_JUMP = 0.25
_FINE_JUMP = 0.15
_EDGE = 0.06  # difference of grey values at which depth may jump
_KEPT = 0.03  # by how much another surface beside an edge must be more alike


def swept(matching: Matching, half: Matching, ranges: Tensor, prior: Tensor) -> Tensor:
    """Inverse depth (B, h, w), 1/m, of keyframes within their inverse ranges (B, 2).

    half: the same keyframes at half the size. prior: depth (B, h, w), whose slant is tried and
    which draws weakly where images do not tell.
    """
    size = matching.size_hw
    step = (ranges[:, 1] - ranges[:, 0])[:, None, None] / (_LABELS - 1)  # (B, 1, 1)
    half_prior = averaged(prior, half.size_hw)
    jumps = _jumps(half.reference, _COARSE_JUMP)
    upright = interpolate(
        _upright(half, ranges, half_prior, jumps)[:, None], size=size, mode="nearest"
    )[:, 0]
    slanted = interpolate(_along(half, half_prior, jumps)[:, None], size=size, mode="bilinear")
    slanted = slanted[:, 0]
    inverse = most_alike(
        matching, torch.stack([near_mean(upright, 2, _REACH * step), slanted], dim=1), 0.0, radius=2
    )
    jumps = _jumps(matching.reference, _FINE_JUMP)
    inverse = _fine(matching, inverse, _STEPS[0] * step, _REACH * step, jumps)
    beside = torch.stack([inverse, largest(inverse, 3), smallest(inverse, 3)], dim=1)
    inverse = most_alike(matching, beside, _KEPT, radius=1)
    inverse = _fine(matching, inverse, _STEPS[1] * step, _REACH * step, jumps)
    return torch.minimum(torch.maximum(median3(inverse), ranges[:, :1, None]), ranges[:, 1:, None])


def most_alike(matching: Matching, candidates: Tensor, kept: Tensor | float, radius: int) -> Tensor:
    """Of surfaces (B, D, h, w) of inverse depth the one (B, h, w) along which images are most
    alike.

    The first one is kept unless another is better by `kept` ((B, h, w) or a number).
    """
    cost = box_mean(matching.cost(candidates, radius), 1)
    cost[:, 0] -= kept
    return candidates.gather(1, cost.min(1, keepdim=True).indices)[:, 0]


def _upright(
    matching: Matching, ranges: Tensor, prior: Tensor, jumps: tuple[Tensor, Tensor]
) -> Tensor:
    """Planes that face the camera, at equal steps of inverse depth."""
    nearest = ranges[:, 1:, None, None]
    farthest = ranges[:, :1, None, None]
    share = torch.linspace(0, 1, _LABELS, device=ranges.device)[:, None, None]
    labels = farthest + (nearest - farthest) * share  # (B, D, 1, 1)
    cost = matching.cost(labels, radius=2)
    away = (labels.log() + prior.log()[:, None]).abs_()
    cost += away.mul_(_PRIOR / _FAR_FROM_PRIOR).clamp_(max=_PRIOR)
    label = median3(winner(semi_global(cost, _STEP, *jumps))[0])
    return farthest[:, 0] + (nearest - farthest)[:, 0] * label / (_LABELS - 1)


def _along(matching: Matching, prior: Tensor, jumps: tuple[Tensor, Tensor]) -> Tensor:
    """The prior as a whole nearer and farther: what lies slanted is sought slanted."""
    factors = torch.linspace(-_SPAN, _SPAN, _ALONG_PRIOR, device=prior.device).exp()[:, None, None]
    cost = matching.cost(factors / prior[:, None], radius=2)
    label = median3(winner(semi_global(cost, _STEP, *jumps))[0])
    return (label * (2 * _SPAN / (_ALONG_PRIOR - 1)) - _SPAN).exp() / prior


def _fine(
    matching: Matching, inverse: Tensor, step: Tensor, reach: Tensor, jumps: tuple[Tensor, Tensor]
) -> Tensor:
    """Surfaces parallel to the estimate: smoothed in inverse depth, in which planes are linear."""
    base = near_mean(inverse, 2, reach)
    offsets = torch.arange(_OFFSETS, device=base.device) - _OFFSETS // 2
    labels = base[:, None] + offsets[:, None, None] * step[:, None]
    cost = semi_global(matching.cost(labels, radius=2), _STEP, *jumps)
    return base + (winner(cost)[0] - _OFFSETS // 2) * step


def _jumps(grey: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Penalties of a jump of depth to the right and lower pixel of (B, h, w): less where grey
    changes.
    """
    right = (grey[:, :, 1:] - grey[:, :, :-1]).abs()
    down = (grey[:, 1:] - grey[:, :-1]).abs()
    return most * (0.3 + 0.7 * torch.exp(-right / _EDGE)), most * (
        0.3 + 0.7 * torch.exp(-down / _EDGE)
    )
