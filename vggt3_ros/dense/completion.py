"""What agreed pixels are carried on to: planes into what has no texture, the network's shape into the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vggt3_ros.dense.agreement import agreement
from vggt3_ros.dense.depth import Provenance
from vggt3_ros.dense.fill import carried_on
from vggt3_ros.dense.planes import plane_depth, visible_planes
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.sweep import Views
from vggt3_ros.dense.windows import largest, smallest

_ON_PLANE = 0.02  # relative depth within which an agreed pixel lies on a plane
_LABEL = 0.5  # share of a plane's label that a pixel needs
_ABOUT = 0.3  # relative difference to the network's shape that a plane may have
_NEAR = 3  # pixels to agreed ones
_HANGING = 0.02  # relative depth by which near pixels may exceed what is agreed around them


def completed(
    views: Views,
    batch: Tensor,
    around: Tensor,
    agreed_depth: Tensor,
    agreed: Tensor,
    predicted: Tensor,
    settings: DenseSettings,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Depth and provenance (B, h, w) of all pixels of keyframes `batch` (B,), and their planes (P, 4) in camera axes.

    around (B, A): neighbours; agreed_depth, agreed and predicted (S, h, w). Depth through which the agreed pixels of
    a neighbour see is the network's alone.
    """
    known, own = agreed[batch], agreed_depth[batch]
    ratio = torch.where(known, (own.clamp(min=1e-6) / predicted[batch]).log(), 0.0)
    guide = views.grey[batch][:, None]
    filled = predicted[batch] * carried_on(ratio[:, None], known[:, None].float(), guide)[:, 0].exp()
    depth = torch.where(known, own, filled)
    provenance = torch.where(known, int(Provenance.AGREED), int(Provenance.FAR))
    provenance[_hanging_together(filled, own, known) & ~known] = int(Provenance.NEAR)
    planes: list[Tensor] = []
    for place, index in enumerate(batch):
        found = (
            visible_planes(own[place], known[place], views.intrinsics[index])
            if settings.planes
            else own.new_zeros(0, 4)
        )
        planes.append(found)
        if len(found) == 0:
            continue
        on_plane = _continued(found, own[place], known[place], filled[place], guide[place], views.intrinsics[index])
        taken = (on_plane > 0) & ~known[place]
        depth[place] = torch.where(taken, on_plane, depth[place])
        provenance[place][taken] = int(Provenance.PLANE)
    whole = agreed_depth.clone()
    whole[batch] = depth
    said = agreement(views, batch, around, whole, agreed, settings.tolerance, settings.least_angle)
    refuted = (said.through > said.agreeing) & ~known
    depth = torch.where(refuted, filled, depth)
    provenance[refuted] = int(Provenance.FAR)
    return depth, provenance.to(torch.uint8), planes


def _hanging_together(filled: Tensor, depth: Tensor, known: Tensor) -> Tensor:
    """Where filled depth (B, h, w) stays within that of the agreed pixels about it, and those within each other's."""
    nearest = smallest(torch.where(known, depth, torch.inf), _NEAR)
    farthest = largest(torch.where(known, depth, -torch.inf), _NEAR)
    within = (filled > nearest * (1 - _HANGING)) & (filled < farthest * (1 + _HANGING))
    return within & (farthest < nearest * (1 + 5 * _HANGING))


def _continued(
    planes: Tensor, depth: Tensor, known: Tensor, filled: Tensor, guide: Tensor, intrinsics: Tensor
) -> Tensor:
    """Depth (h, w) of the plane that each pixel lies on by the labels of agreed pixels about it, 0 for none."""
    surfaces = plane_depth(planes, intrinsics, (depth.shape[0], depth.shape[1]))
    off = (surfaces / depth.clamp(min=1e-6) - 1).abs()
    nearest = off.min(0)
    label = torch.where(nearest.values < _ON_PLANE, nearest.indices, len(planes))
    labels = one_hot(label, len(planes) + 1).permute(2, 0, 1).float() * known
    share, best = carried_on(labels[None], known[None, None].float(), guide[None])[0, :-1].max(0)
    surface = surfaces.gather(0, best[None])[0]
    fits = (share > _LABEL) & (surface > 0) & ((surface / filled - 1).abs() < _ABOUT)
    return torch.where(fits, surface, 0.0)
