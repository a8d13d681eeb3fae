"""Where a line enters and leaves the unit cube, cylinder or ball: the arithmetic behind every ray
that is cast.

Arguments are three origin components and three direction components in a primitive's local frame,
tensors that broadcast; results are line parameters, equal to z-depth where the direction's camera z
is 1. No branches and no boolean masks: a miss shows as a large parameter, since comparisons cost
far more than arithmetic in eager torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

Triple = tuple[Tensor, Tensor, Tensor]
MISS = 1e30  # parameters above 1e9 or so mean "never"


def leave_cube(origin: Triple, direction: Triple) -> Tensor:
    """Parameter at which lines that start inside the cube [-1, 1]^3 leave it."""
    out = None
    for o, d in zip(origin, direction, strict=True):
        inverse = _reciprocal(d)
        far = torch.addcmul(inverse.abs(), inverse, o, value=-1)
        out = far if out is None else torch.minimum(out, far, out=out)
    assert out is not None
    return out


def enter_cube(origin: Triple, direction: Triple) -> Tensor:
    """Parameter at which lines enter the cube [-1, 1]^3 ahead of their origin, which is outside;
    huge for a miss.
    """
    return _ahead(*_slabs(origin, direction))


def enter_round(origin: Triple, direction: Triple, sphere: Tensor) -> Tensor:
    """As enter_cube, for the unit ball where sphere is 1, for the unit cylinder along z where
    sphere is 0.
    """
    ox, oy, oz = origin
    dx, dy, dz = direction
    squared = torch.addcmul(dx * dx, dy, dy).addcmul_(dz * sphere, dz).add_(1e-12)
    half_b = torch.addcmul(dx * ox, dy, oy).addcmul_(dz, oz * sphere)
    rest = ox * ox + oy * oy + sphere * oz * oz - 1
    discriminant = (half_b * half_b).sub_(squared * rest)
    root = discriminant.clamp(min=0).sqrt_()
    inverse = squared.reciprocal()
    inverse_z = _reciprocal(dz)
    middle_z = -oz * inverse_z
    reach_z = inverse_z.abs_()
    near = torch.maximum((half_b + root).mul_(inverse).neg_(), middle_z - reach_z)
    far = torch.minimum((root - half_b).mul_(inverse), middle_z + reach_z)
    return _ahead(near, torch.minimum(far, discriminant.clamp_(max=0).mul_(MISS).add_(far)))


def _reciprocal(direction: Tensor) -> Tensor:
    """1 / direction, finite even for lines parallel to a face (infinity minus infinity would not be
    a number).
    """
    return direction.reciprocal().clamp_(-1e12, 1e12)


def _slabs(origin: Triple, direction: Triple) -> tuple[Tensor, Tensor]:
    near = far = None
    for o, d in zip(origin, direction, strict=True):
        inverse = _reciprocal(d)
        middle = inverse * -o
        reach = inverse.abs_()
        low = middle - reach
        high = middle.add_(reach)
        if near is None or far is None:
            near = low
            far = high
        else:
            near = torch.maximum(near, low, out=near)
            far = torch.minimum(far, high, out=far)
    assert near is not None and far is not None
    return near, far


def _ahead(near: Tensor, far: Tensor) -> Tensor:
    """`near` where the interval [near, far] exists and lies ahead, huge otherwise."""
    gap = torch.minimum(far.sub_(near), near).clamp_(max=0)
    return near.sub_(gap, alpha=MISS)
