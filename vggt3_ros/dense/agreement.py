"""Whether other keyframes see the same surface, see through it, or something before it: what makes
depth believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.dense.cameras import homogeneous_pixels, mapping
from vggt3_ros.dense.shape import bend, steepness
from vggt3_ros.dense.views import Views

_THROUGH = 0.03  # relative depth behind a point from which a view sees through it
_SHARE_AGREEING = 0.3  # of the views that see a point
# most that a surface may bend, and if a single view agrees
_BEND = 0.05
_BEND_FOR_ONE = 0.02
_STEEPEST = 5.0  # tangent of the angle of incidence


@dataclass(frozen=True, eq=False)
class Agreement:
    """What neighbours say of the depth of B keyframes, each (B, h, w).

    agreeing: views of the same depth; seeing: views that have the point in their image and nothing
    before it; through: views that see farther than the point. fused: mean of the own depth and the
    agreeing ones, metres; angle: greatest angle between the own ray and that of an agreeing view,
    rad.
    """

    agreeing: Tensor
    seeing: Tensor
    through: Tensor
    fused: Tensor
    angle: Tensor


def agreement(
    views: Views,
    batch: Tensor,
    neighbours: Tensor,
    own: Tensor,
    depth: Tensor,
    known: Tensor,
    tolerance: float,
    least_angle: float,
) -> Agreement:
    """Compare depth `own` (B, h, w) of keyframes `batch` (B,) with that of neighbours (B, A), -1
    for none.

    depth and where it is known (S, h, w); tolerance: relative; least_angle: degrees.
    """
    height, width = depth.shape[-2:]
    usable = neighbours >= 0
    others = torch.where(usable, neighbours, batch[:, None])
    into = mapping(views.intrinsics, views.world_from_cam, batch, others)
    pixels = homogeneous_pixels((height, width), depth).flatten(1)
    own = own.flatten(1)[:, None]  # (B, 1, N)
    # (B, A, N)
    x, y, z = (own[:, :, None] * (into.turn @ pixels) + into.shift[..., None]).unbind(2)
    column, row = ((each / z).nan_to_num(-1.0).round() for each in (x, y))
    inside = usable[..., None] & (z > 0) & (own > 0)
    inside &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
    there = depth.flatten(1)[others].gather(2, place)
    inside &= known.flatten(1)[others].gather(2, place)
    ratio = there / z
    cosine = _cosines(views.intrinsics[batch], own, into.centre, pixels)
    agree = inside & ((ratio - 1).abs() < tolerance)
    agree &= cosine <= math.cos(math.radians(least_angle))
    through = inside & (ratio > 1 + _THROUGH)
    seeing = inside & (ratio > 1 - _THROUGH)
    count = agree.sum(1)
    fused = own[:, 0] * (1 + torch.where(agree, ratio, 0.0).sum(1)) / (1 + count)
    widest = torch.arccos(torch.where(agree, cosine, 1.0).amin(1))
    shape = (len(batch), height, width)
    return Agreement(
        *(each.view(shape) for each in (count, seeing.sum(1), through.sum(1), fused, widest))
    )


def believed(said: Agreement, intrinsics: Tensor) -> Tensor:
    """Where (B, h, w) enough of the views that see a point agree, and the surface is no ramp
    between two others.
    """
    enough = said.agreeing >= (_SHARE_AGREEING * said.seeing).clamp(min=1)
    flat = bend(said.fused) < torch.where(said.agreeing > 1, _BEND, _BEND_FOR_ONE)
    return (
        enough
        & flat
        & (said.through <= said.agreeing)
        & (steepness(said.fused, intrinsics) < _STEEPEST)
    )


def _cosines(intrinsics: Tensor, own: Tensor, centre: Tensor, pixels: Tensor) -> Tensor:
    """Cosines (B, A, N) of the angles at points, of depth `own` (B, 1, N), between the rays to the
    own camera and to those with centres (B, A, 3).
    """
    rays = torch.linalg.inv(intrinsics.double()).float() @ pixels  # (B, 3, N)
    square = rays.square().sum(1, keepdim=True)
    beside = centre @ rays  # (B, A, N)
    away = centre.square().sum(-1, keepdim=True) + own * (own * square - 2 * beside)
    cosine: Tensor = (own * square - beside) * (away * square).clamp_(min=1e-12).rsqrt_()
    return cosine.clamp_(-1, 1)
