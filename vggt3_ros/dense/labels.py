"""Which of some surfaces each pixel shows, told by wide windows: they see what little texture bare
walls have.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vggt3_ros.dense.aggregate import semi_global
from vggt3_ros.dense.matching import Matching
from vggt3_ros.dense.windows import largest, smallest

_RADIUS = 4  # pixels at half size
_UNLIKE = 0.35  # 1 - correlation from which no surface is better than what is there
_AGREED = (
    0.5  # cost of what is there where it is agreed on: that tells nothing of the pixels beside
)
_ON_SURFACE = 0.02  # relative difference at which an agreed pixel is on a surface no more
_JUMP = 1.2  # penalty of another surface beside ...
_EDGE = 0.06  # ... which falls with this difference of grey values ...
_ACROSS_EDGE = 0.1  # ... to this share
_THICK = 4  # pixels to the border of what is no strip
_MIN_CONFIRMED = 0.7  # of the pixels of a surface
_MIN_SHARE = 0.005  # of all pixels


def surface_labels(
    half: Matching, inverse: Tensor, agreed: Tensor, likely: Tensor, surfaces: Tensor
) -> Tensor:
    """Which surface (B, h, w) each pixel of B keyframes shows: 0 for what is there, 1 for the first
    of the surfaces.

    half: the keyframes at half size. inverse (B, h, w): inverse depth of what is there; where it is
    agreed (B, h, w), and where it is likely (B, h, w), so that a surface must be more alike.
    surfaces (B, P, h, w): inverse depths, 0 where there is none. Labels hang together by semi-
    global matching, but less across edges of the image.
    """
    there, known, good = (
        _resized(each[:, None].float(), half.size_hw) for each in (inverse, agreed, likely)
    )
    candidates = torch.cat([there, _resized(surfaces, half.size_hw)], dim=1)
    usable = candidates > 0
    alike = half.evidence(torch.where(usable, candidates, there), _RADIUS)
    cost = torch.where(usable, 1 - alike, 1.0).clamp(max=1.0)
    cost[:, 0] = torch.where(good[:, 0] > 0, cost[:, 0].clamp(max=_UNLIKE), _UNLIKE)
    off = ((candidates / there - 1).abs() / _ON_SURFACE).clamp(max=1.0)
    off[:, 0] = _AGREED
    cost = torch.where(known > 0, off, cost)
    right, down = half.reference.diff(dim=2).abs(), half.reference.diff(dim=1).abs()
    jumps = [
        _JUMP * (_ACROSS_EDGE + (1 - _ACROSS_EDGE) * torch.exp(-each / _EDGE))
        for each in (right, down)
    ]
    label = semi_global(cost, torch.inf, *jumps).min(1).indices
    return _resized(label[:, None].float(), inverse.shape[-2:])[:, 0].long()


def mostly_confirmed(label: Tensor, confirmed: Tensor) -> Tensor:
    """Of labels above 0 (S, h, w), where most pixels of the same label are confirmed (S, h, w), and
    these are many.
    """
    count = int(label.max()) + 1
    every = torch.bincount(label.flatten(), minlength=count)
    good = torch.bincount(label[confirmed], minlength=count)
    kept = (good >= _MIN_CONFIRMED * every) & (good >= _MIN_SHARE * label.numel())
    kept[0] = False
    return kept[label]


def without_strips(taken: Tensor, beside: Tensor) -> Tensor:
    """What is taken (B, h, w), without strips and specks: together with what is beside, windows fit
    in.
    """
    whole = (taken | beside).float()
    return taken & (largest(smallest(whole, _THICK), _THICK) > 0)


def _resized(values: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(values, size=size, mode="nearest")
