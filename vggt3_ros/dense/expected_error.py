"""How far off a depth is to be expected, by how it is known."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.depth import Provenance

_PIXEL = 0.25  # pixels that matches are off
_FLOOR = 0.002  # relative error that more views and wider angles do not take away
_BY_AGREEING = (1.0, 2.0, 1.4, 1.1, 1.0)  # factor for 0, 1, 2, 3 and more agreeing views
_RELATIVE = {Provenance.PLANE: 0.012, Provenance.NEAR: 0.03, Provenance.FAR: 0.15}


def expected_error(depth: Tensor, provenance: Tensor, agreeing: Tensor, angle: Tensor, focal: Tensor) -> Tensor:
    """Expected error of depth in metres (S, h, w), 0 where nothing is known.

    Of agreed pixels: what a quarter pixel means at the widest angle (S, h, w) of agreeing views, rad, and focal length
    (S, 1, 1) in pixels. For others a share of the depth.
    """
    by_views = torch.tensor(_BY_AGREEING, device=depth.device)[agreeing.clamp(max=len(_BY_AGREEING) - 1).long()]
    relative = torch.hypot(_PIXEL / (focal * angle.clamp(min=1e-3)), torch.full_like(depth, _FLOOR)) * by_views
    for kind, share in _RELATIVE.items():
        relative = torch.where(provenance == kind, share, relative)
    return torch.where(provenance == Provenance.NONE, 0.0, relative * depth)
