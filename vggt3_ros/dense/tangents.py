"""The planes that touch a surface seen in a depth image, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_BEND = 0.01  # relative second difference of inverse depth from which a pixel lies at an edge


def tangent_planes(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Planes (h, w, 3): n with n . x = 1 for points x of the plane in camera axes; 0 where none is
    determined.

    depth (h, w) along z, 0 for none; intrinsics (3, 3) of these pixels. n . (column', row', 1) is
    the inverse depth of the plane at normalized image coordinates, which is why slopes are taken
    there: planes are linear in it. At edges the slope is that towards the side which goes on
    straight; a pixel without neighbours along an axis has none.
    """
    known = depth > 0
    inverse = torch.where(known, 1 / depth.clamp(min=1e-12), 0.0)
    across, across_known = _slope(inverse, known)
    down, down_known = _slope(inverse.T, known.T)
    slope_x = intrinsics[0, 0] * across
    slope_y = intrinsics[1, 1] * down.T
    x = (
        torch.arange(depth.shape[1], device=depth.device, dtype=depth.dtype) - intrinsics[0, 2]
    ) / intrinsics[0, 0]
    y = (
        torch.arange(depth.shape[0], device=depth.device, dtype=depth.dtype) - intrinsics[1, 2]
    ) / intrinsics[1, 1]
    planes = torch.stack([slope_x, slope_y, inverse - slope_x * x - slope_y * y[:, None]], dim=-1)
    return torch.where((known & across_known & down_known.T)[..., None], planes, 0.0)


def _slope(inverse: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of inverse depth (h, w) from column to column, and where there is one."""
    step = torch.where(known[:, 1:] & known[:, :-1], inverse.diff(dim=1), torch.nan)
    forward = pad(step, (0, 1), value=torch.nan)
    backward = pad(step, (1, 0), value=torch.nan)
    bend = (forward - backward).abs().nan_to_num(torch.inf)
    bend_ahead = pad(bend[:, 1:], (0, 1), value=torch.inf)
    bend_behind = pad(bend[:, :-1], (1, 0), value=torch.inf)
    flatter = torch.where(
        bend_ahead == bend_behind, forward.abs() < backward.abs(), bend_ahead < bend_behind
    )
    one_sided = torch.where(backward.isnan() | (flatter & ~forward.isnan()), forward, backward)
    slope = torch.where(bend < _BEND * inverse, (forward + backward) / 2, one_sided)
    return slope.nan_to_num(), ~slope.isnan()
