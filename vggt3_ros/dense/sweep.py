"""Inverse depth of keyframes from their neighbours: a coarse sweep, then finer ones along the surfaces it found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vggt3_ros.dense.aggregate import semi_global, winner
from vggt3_ros.dense.cameras import mapping
from vggt3_ros.dense.matching import Matching
from vggt3_ros.dense.resize import averaged, averaged_intrinsics
from vggt3_ros.dense.windows import box_mean, largest, median3, near_mean, smallest

_LABELS = 64  # inverse depths of the coarse sweep
_OFFSETS = 9  # of a fine one
_STEPS = (0.5, 0.25)  # between them, in steps of the coarse sweep
_PRIOR, _FAR_FROM_PRIOR = 0.1, 0.25  # greatest cost, and the difference of log depth at which it is reached
_STEP, _COARSE_JUMP, _FINE_JUMP = 0.04, 0.25, 0.15  # penalties of semi-global matching
_EDGE = 0.06  # difference of grey values at which depth may jump
_KEPT = 0.03  # by how much another surface beside an edge must be more alike


@dataclass(frozen=True, eq=False)
class Views:
    """Grey images (S, h, w) of all keyframes in one size, with intrinsics (S, 3, 3) and poses (S, 4, 4)."""

    grey: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.grey.shape[1], self.grey.shape[2]

    def halved(self) -> Views:
        """The same at half the size."""
        half = (self.size_hw[0] // 2, self.size_hw[1] // 2)
        intrinsics = averaged_intrinsics(self.intrinsics, self.size_hw, half)
        return Views(averaged(self.grey, half), intrinsics, self.world_from_cam)

    def matching(self, batch: Tensor, neighbours: Tensor) -> Matching:
        """Keyframes `batch` (B,) and their neighbours (B, V), -1 for none."""
        usable = neighbours >= 0
        views = torch.where(usable, neighbours, batch[:, None])
        into_views = mapping(self.intrinsics, self.world_from_cam, batch, views)
        return Matching(self.grey[batch], self.grey[views], usable, into_views)


def swept(views: Views, half: Views, batch: Tensor, neighbours: Tensor, ranges: Tensor, prior: Tensor) -> Tensor:
    """Inverse depth (B, h, w) of keyframes `batch` (B,) with neighbours (B, V); inverse ranges (B, 2).

    prior: depth (B, h, w) that draws weakly where images do not tell.
    """
    step = (ranges[:, 1] - ranges[:, 0])[:, None, None] / (_LABELS - 1)  # (B, 1, 1)
    coarse = _coarse(half.matching(batch, neighbours), ranges, averaged(prior, half.size_hw))
    inverse = interpolate(coarse[:, None], size=views.size_hw, mode="nearest")[:, 0]
    matching = views.matching(batch, neighbours)
    jumps = _jumps(matching.reference, _FINE_JUMP)
    inverse = _fine(matching, inverse, _STEPS[0] * step, 2 * step, jumps)
    inverse = _beside_edges(matching, inverse)
    inverse = _fine(matching, inverse, _STEPS[1] * step, 2 * step, jumps)
    return torch.minimum(torch.maximum(median3(inverse), ranges[:, :1, None]), ranges[:, 1:, None])


def _coarse(matching: Matching, ranges: Tensor, prior: Tensor) -> Tensor:
    """Fronto-parallel planes at equal steps of inverse depth."""
    share = torch.linspace(0, 1, _LABELS, device=ranges.device)
    inverse = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * share  # (B, D)
    labels = inverse[:, :, None, None]
    cost = matching.cost(labels, radius=2)
    away = (labels.log() + prior.log()[:, None]).abs_()
    cost += away.mul_(_PRIOR / _FAR_FROM_PRIOR).clamp_(max=_PRIOR)
    aggregated = semi_global(cost, _STEP, *_jumps(matching.reference, _COARSE_JUMP))
    label = median3(winner(aggregated)[0])
    return ranges[:, :1, None] + (ranges[:, 1:] - ranges[:, :1])[..., None] * label / (_LABELS - 1)


def _fine(matching: Matching, inverse: Tensor, step: Tensor, reach: Tensor, jumps: tuple[Tensor, Tensor]) -> Tensor:
    """Surfaces parallel to the estimate: smoothed in inverse depth, in which planes are linear."""
    base = near_mean(inverse, 2, reach)
    offsets = torch.arange(_OFFSETS, device=base.device) - _OFFSETS // 2
    labels = base[:, None] + offsets[:, None, None] * step[:, None]
    cost = semi_global(matching.cost(labels, radius=2), _STEP, *jumps)
    return base + (winner(cost)[0] - _OFFSETS // 2) * step


def _beside_edges(matching: Matching, inverse: Tensor) -> Tensor:
    """The estimate, or the nearest or farthest surface of its neighbourhood where that looks more alike."""
    candidates = torch.stack([inverse, largest(inverse, 3), smallest(inverse, 3)], dim=1)
    cost = box_mean(matching.cost(candidates, radius=1), 1)
    cost[:, 0] -= _KEPT
    return candidates.gather(1, cost.argmin(1, keepdim=True))[:, 0]


def _jumps(grey: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Penalties of a jump of depth to the right and lower pixel of (B, h, w)."""
    right = (grey[:, :, 1:] - grey[:, :, :-1]).abs()
    down = (grey[:, 1:] - grey[:, :-1]).abs()
    return tuple(most * (0.3 + 0.7 * torch.exp(-each / _EDGE)) for each in (right, down))  # type: ignore[return-value]
