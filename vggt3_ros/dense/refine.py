"""The network's depth refined by multi-view geometry: the network proposes, many views dispose."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vggt3_ros.dense.agreement import Agreement, agreement
from vggt3_ros.dense.completion import completed
from vggt3_ros.dense.depth import DenseDepth, Provenance
from vggt3_ros.dense.expected_error import expected_error
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.neighbours import inverse_ranges, neighbours
from vggt3_ros.dense.planes import in_world, merged_planes, plane_depth, visible_planes
from vggt3_ros.dense.windows import box_mean
from vggt3_ros.geometry.se3 import se3_inverse
import os
from vggt3_ros.dense.prior import corrected, usable_prediction
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.shape import bend, steepness
from vggt3_ros.dense.sweep import Views, swept

_ALIKE = 0.3  # correlation from which a match is one
_SHARE_AGREEING = 0.3  # of the views that see a point
_BEND, _BEND_FOR_ONE = 0.05, 0.02  # most that a surface may bend, and if a single view agrees
_STEEPEST = 5.0  # tangent of the angle of incidence
_GREY = (0.299, 0.587, 0.114)

Progress = Callable[[float], None]


@torch.no_grad()
def refine(keyframes: Keyframes, settings: DenseSettings | None = None, progress: Progress | None = None) -> DenseDepth:
    """Depth of every pixel of every keyframe, with how it is known.

    A keyframe needs its neighbours only: memory grows with the number of keyframes by their depth alone.
    progress(0..1) may raise to cancel.
    """
    settings = settings or DenseSettings()
    tell = progress or (lambda share: None)
    device = keyframes.images.device
    weights = torch.tensor(_GREY, device=device)[:, None, None]
    grey = (keyframes.images.float() * weights).sum(1)
    views = Views(grey, keyframes.intrinsics, keyframes.world_from_cam)
    around = neighbours(keyframes, settings.checked, settings.least_angle)
    predicted = usable_prediction(keyframes)
    depth, alike = _matched(keyframes, views, predicted, around[:, : settings.views], settings, tell)
    return _judged(keyframes, views, predicted, around, depth, alike, settings, tell)


def _matched(
    keyframes: Keyframes, views: Views, predicted: Tensor, around: Tensor, settings: DenseSettings, tell: Progress
) -> tuple[Tensor, Tensor]:
    """Depth (S, h, w) that looks most alike in the neighbours, and where it does look alike (S, h, w)."""
    half = views.halved()
    ranges = inverse_ranges(keyframes)
    depth = predicted.clone()
    alike = torch.zeros_like(depth, dtype=torch.bool)
    for batch in _batches(keyframes, settings):
        tell(0.75 * float(batch[0]) / len(keyframes))
        batch = batch[(around[batch] >= 0).any(1)]
        if len(batch) == 0:
            continue
        prior = corrected(predicted, keyframes, views.grey, batch)
        inverse = swept(views, half, batch, around[batch], ranges[batch], prior)
        depth[batch] = 1 / inverse
        alike[batch] = views.matching(batch, around[batch]).evidence(inverse, radius=2) > _ALIKE
    return depth, alike


def _judged(
    keyframes: Keyframes,
    views: Views,
    predicted: Tensor,
    around: Tensor,
    depth: Tensor,
    alike: Tensor,
    settings: DenseSettings,
    tell: Progress,
) -> DenseDepth:
    """What neighbours agree on, and what is carried on from there."""
    result = DenseDepth(
        depth=torch.zeros_like(depth),
        provenance=torch.zeros_like(depth, dtype=torch.uint8),
        agreeing=torch.zeros_like(depth, dtype=torch.uint8),
        sigma=torch.zeros_like(depth),
        planes=depth.new_zeros(0, 4),
    )
    angle = torch.zeros_like(depth)
    import os
    for k in range(int(os.environ.get('PASSES', 2))):
      for batch in _batches(keyframes, settings):
        tell(0.75 + 0.05 * float(batch[0]) / len(keyframes))
        said = agreement(views, batch, around[batch], depth, alike, settings.tolerance, settings.least_angle)
        agreed = alike[batch] & believed(said, views.intrinsics[batch])
        result.depth[batch] = torch.where(agreed, said.fused, 0.0)
        result.provenance[batch] = agreed.to(torch.uint8) * int(Provenance.AGREED)
        result.agreeing[batch] = torch.where(agreed, said.agreeing, 0).to(torch.uint8)
        angle[batch] = said.angle
      depth = torch.where(result.depth > 0, result.depth, depth)
      alike = result.provenance == Provenance.AGREED
      if k == 0 and os.environ.get('HYP', '1') == '1':
        depth, alike = _with_planes(keyframes, views, around, depth, result.provenance == Provenance.AGREED, settings)
    agreed_depth, agreed = result.depth.clone(), result.provenance == Provenance.AGREED
    planes: list[Tensor] = []
    for batch in _batches(keyframes, settings):
        tell(0.8 + 0.2 * float(batch[0]) / len(keyframes))
        whole, provenance, own_planes = completed(
            views, batch, around[batch], agreed_depth, agreed, predicted, settings
        )
        result.depth[batch], result.provenance[batch] = whole, provenance
        planes += [in_world(p, keyframes.world_from_cam[i]) for p, i in zip(own_planes, batch, strict=True)]
    focal = keyframes.intrinsics[:, 0, 0].float()[:, None, None]
    sigma = expected_error(result.depth, result.provenance, result.agreeing, angle, focal)
    tell(1.0)
    return DenseDepth(result.depth, result.provenance, result.agreeing, sigma, merged_planes(planes, depth))


def _with_planes(keyframes, views, around, depth, agreed, settings):
    ranges = inverse_ranges(keyframes)
    own = [in_world(visible_planes(depth[i], agreed[i], views.intrinsics[i]), keyframes.world_from_cam[i]) for i in range(len(keyframes))]
    depth = depth.clone(); alike = torch.zeros_like(agreed)
    for batch in _batches(keyframes, settings):
        near = around[batch, : settings.views]
        lists = [merged_planes([own[j] for j in [i, *[n for n in around[i].tolist() if n >= 0]]], depth)[:12] for i in batch.tolist()]
        most = max(len(l) for l in lists)
        inverse = 1 / depth[batch]
        cand = inverse[:, None].expand(-1, most + 1, -1, -1).clone()
        for b, (i, planes) in enumerate(zip(batch.tolist(), lists)):
            cam = in_world(planes, se3_inverse(keyframes.world_from_cam[i].double()))
            d = plane_depth(cam, views.intrinsics[i], views.size_hw)
            q = 1 / d
            ok = (d > 0) & (q > ranges[i, 0]) & (q < ranges[i, 1])
            cand[b, 1 : len(planes) + 1] = torch.where(ok, q, inverse[b])
        matching = views.matching(batch, near)
        cost = box_mean(matching.cost(cand, radius=1), 1)
        cost[:, 0] -= float(os.environ.get('KEEP', '.03'))
        cost[:, 0] -= float(os.environ.get('KEEPA', '.03')) * agreed[batch]
        inverse = cand.gather(1, cost.argmin(1, keepdim=True))[:, 0]
        depth[batch] = 1 / inverse
        alike[batch] = views.matching(batch, around[batch]).evidence(inverse, radius=2) > _ALIKE
    return depth, alike


def believed(said: Agreement, intrinsics: Tensor) -> Tensor:
    """Where (B, h, w) enough of the views that see a point agree, and the surface is not a ramp between two others."""
    enough = said.agreeing >= (_SHARE_AGREEING * said.seeing).clamp(min=1)
    curved = bend(said.fused)
    flat = curved < torch.where(said.agreeing > 1, _BEND, _BEND_FOR_ONE)
    return enough & flat & (said.through <= said.agreeing) & (steepness(said.fused, intrinsics) < _STEEPEST)


def _batches(keyframes: Keyframes, settings: DenseSettings) -> Iterator[Tensor]:
    numbers = torch.arange(len(keyframes), device=keyframes.images.device)
    yield from numbers.split(settings.batch)
