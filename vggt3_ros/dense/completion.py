"""What agreed pixels are carried on to: planes into what has no texture, the network's shape into
the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vggt3_ros.dense.fill import carried_on
from vggt3_ros.dense.windows import largest, smallest
from vggt3_ros.geometry.provenance import Provenance

_ON_PLANE = 0.02  # relative depth within which an agreed pixel lies on a plane
# share of the pixels that must be agreed on and lie on a plane before it is carried on
_MIN_ON_PLANE = 0.003
_LABEL = 0.5  # share of a plane's label that a pixel needs
_ABOUT = 0.3  # relative difference to the network's shape that a plane may have
_NEAR = 3  # pixels to agreed ones
_HANGING = 0.01  # relative depth by which near pixels may exceed what is agreed around them
_TOGETHER = 0.02  # most relative difference of what is agreed around them


def filled_depth(depth: Tensor, known: Tensor, predicted: Tensor, grey: Tensor) -> Tensor:
    """The network's shape: predicted depth, with its ratio to the depth that is known carried on,
    all (B, h, w).
    """
    ratio = torch.where(known, (depth / predicted).log(), 0.0)
    return predicted * carried_on(ratio[:, None], known[:, None].float(), grey[:, None])[:, 0].exp()


def completed(
    depth: Tensor, known: Tensor, filled: Tensor, surfaces: Sequence[Tensor], grey: Tensor
) -> tuple[Tensor, Tensor]:
    """Depth and provenance (B, h, w) of all pixels, given depth that views agree on where it is
    `known` (B, h, w).

    filled (B, h, w): the network's shape; surfaces: per keyframe the inverse depth (P, h, w) of its
    planes.
    """
    provenance = torch.where(known, int(Provenance.AGREED), int(Provenance.FAR)).to(torch.uint8)
    provenance[_hanging_together(filled, depth, known) & ~known] = int(Provenance.NEAR)
    whole = torch.where(known, depth, filled)
    for place, inverse in enumerate(surfaces):
        if len(inverse):
            plane = _continued(inverse, depth[place], known[place], filled[place], grey[place])
            taken = (plane > 0) & ~known[place]
            whole[place] = torch.where(taken, plane, whole[place])
            provenance[place][taken] = int(Provenance.PLANE)
    return whole, provenance


def _hanging_together(filled: Tensor, depth: Tensor, known: Tensor) -> Tensor:
    """Where filled depth (B, h, w) stays within that of the agreed pixels about it, and those
    within each other's.
    """
    nearest = smallest(torch.where(known, depth, torch.inf), _NEAR)
    farthest = largest(torch.where(known, depth, -torch.inf), _NEAR)
    within = (filled > nearest * (1 - _HANGING)) & (filled < farthest * (1 + _HANGING))
    return within & (farthest < nearest * (1 + _TOGETHER))


def _continued(
    inverse: Tensor, depth: Tensor, known: Tensor, filled: Tensor, grey: Tensor
) -> Tensor:
    """Depth (h, w) of the plane that each pixel lies on, by the labels of agreed pixels about it, 0
    for none.

    Agreed pixels that lie on no plane have a label too, which is carried on as well.
    """
    off, nearest = (inverse * depth - 1).abs().min(0)
    label = torch.where(off < _ON_PLANE, nearest, len(inverse))
    labels = one_hot(label, len(inverse) + 1).permute(2, 0, 1).float() * known
    enough = labels[:-1].sum((1, 2)) >= _MIN_ON_PLANE * depth.numel()
    if not bool(enough.any()):
        return torch.zeros_like(depth)
    inverse = inverse[enough]
    values = torch.cat([labels[:-1][enough], labels[-1:]])
    weight = known[None, None].float()
    share, best = carried_on(values[None], weight, grey[None, None])[0, :-1].max(0)
    plane = inverse.gather(0, best[None])[0]
    fits = (share > _LABEL) & (plane > 0) & ((plane * filled - 1).abs() < _ABOUT)
    return torch.where(fits, 1 / plane, 0.0)
