"""How far off a depth is to be expected, by how it is known."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.geometry.provenance import Provenance

# Mean errors relative to depth, measured on three rooms at 160 x 120 pixels with the landmarks' own
# poses.
# for 0, 1, 2 ... agreeing views
_BY_AGREEING = (0.0, 0.0055, 0.0054, 0.0035, 0.0026, 0.0016, 0.0010)
_PIXELS = 0.016  # pixels that add to it as the widest angle of agreeing views tells
# planes along main directions, told by wide windows: 0.016 in nine places, more in others
_WALL = 0.02
_OTHERS = {Provenance.PLANE: 0.013, Provenance.NEAR: 0.05, Provenance.FAR: 0.125}


def expected_error(
    depth: Tensor,
    provenance: Tensor,
    walls: Tensor,
    agreeing: Tensor,
    angle: Tensor,
    focal: Tensor,
) -> Tensor:
    """Expected error of depth in metres (S, h, w): the mean of its absolute value; 0 where nothing
    is known.

    walls (S, h, w): which planes were told by wide windows. angle (S, h, w): widest angle between
    the own ray and that of an agreeing view, rad; focal (S, 1, 1) in pixels.
    """
    by_views = torch.tensor(_BY_AGREEING, device=depth.device)
    relative = by_views[agreeing.clamp(max=len(_BY_AGREEING) - 1).long()] + _PIXELS / (
        focal * angle.clamp(min=1e-3)
    )
    for kind, share in _OTHERS.items():
        relative = torch.where(provenance == kind, share, relative)
    relative = torch.where(walls, _WALL, relative)
    return torch.where(provenance == Provenance.NONE, 0.0, relative * depth)
