"""Losses of the dense heads, depth and points, with confidence, after the published recipe.

Unknown pixels are left out. Maps are (B, D, H, W): D decoded views of each of B scenes, lengths in
units of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.network import TrainingOutput
from vggt3_ros.training.config import LossWeights
from vggt3_ros.training.scenes import SceneBatch

_CONFIDENCE = 0.2  # reward for being sure
_MAX_VALUE = 100.0  # errors, and coordinates of true points
_FEW = 1000  # values, of which none are taken for outliers
_DEPTH_STRIDES = (1, 2, 4, 8)
_NORMAL_STRIDES = (1, 2, 4)


@dataclass(frozen=True, eq=False)
class DenseTruth:
    """True depth and world points of the decoded views."""

    depth: Tensor  # (B, D, H, W)
    points: Tensor  # (B, D, H, W, 3)
    known: Tensor  # (B, D, H, W) bool
    synthetic: Tensor  # (B, D, H, W) bool: known, and exact enough to compare neighbours


def dense_truth(batch: SceneBatch, stride: int) -> DenseTruth:
    """Truth for every `stride`-th view; pixels without depth or farther than 100 from the origin
    are unknown.
    """
    depth = batch.depth[:, ::stride]
    world_from_cam = se3_inverse(batch.cam_from_world[:, ::stride])
    cam = unproject(depth, batch.intrinsics[:, None]).flatten(2, 3)
    points = cam @ world_from_cam[..., :3, :3].transpose(-1, -2) + world_from_cam[..., None, :3, 3]
    points = points.unflatten(2, depth.shape[-2:])
    known = (depth > 0) & (points.abs() <= _MAX_VALUE).all(-1)
    return DenseTruth(depth, points, known, known & batch.synthetic[:, None, None, None])


def depth_loss(output: TrainingOutput, truth: DenseTruth, weights: LossWeights) -> Tensor:
    """Absolute error of depth, plain and by confidence; of its logarithm; of its differences
    between neighbours.
    """
    error = output.depth - truth.depth
    loss = _by_confidence(error.abs(), output.depth_confidence, truth, weights.outliers)
    if weights.depth_log:
        logs = (output.depth.clamp(min=1e-4).log() - truth.depth.clamp(min=1e-4).log()).abs()
        loss = loss + weights.depth_log * _mean(logs, truth.known)
    if weights.shape:
        loss = loss + weights.shape * neighbour_loss(error, truth.synthetic)
    return loss


def points_loss(output: TrainingOutput, truth: DenseTruth, weights: LossWeights) -> Tensor:
    """Distance of points in the world, plain and by confidence; angle between normals."""
    assert output.pointmap is not None and output.pointmap_confidence is not None, (
        "the model has a point head"
    )
    error = torch.linalg.vector_norm(output.pointmap - truth.points, dim=-1)
    loss = _by_confidence(error, output.pointmap_confidence, truth, weights.outliers)
    if weights.shape:
        loss = loss + weights.shape * normal_loss(output.pointmap, truth.points, truth.synthetic)
    return loss


def neighbour_loss(error: Tensor, known: Tensor) -> Tensor:
    """Differences of the error (..., H, W) between neighbours in both directions, averaged over
    strides 1 to 8.
    """
    total = error.new_zeros(())
    for stride in _DEPTH_STRIDES:
        e = error[..., ::stride, ::stride]
        k = known[..., ::stride, ::stride]
        for dim in (-1, -2):
            pair = k.narrow(dim, 1, k.shape[dim] - 1) & k.narrow(dim, 0, k.shape[dim] - 1)
            total = total + (
                e.diff(dim=dim).abs().clamp(max=_MAX_VALUE) * pair
            ).sum() / k.sum().clamp(min=1)
    return total / len(_DEPTH_STRIDES)


def normal_loss(points: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """1 - cos between normals of points (..., H, W, 3) and of the true ones, averaged over strides
    1, 2 and 4.

    Every pixel has four: of the cross products of its neighbours above, left, below and right in
    turn.
    """
    total = points.new_zeros(())
    for stride in _NORMAL_STRIDES:
        estimated, there = (_normals(p[..., ::stride, ::stride, :]) for p in (points, truth))
        k = known[..., ::stride, ::stride]
        around = [_shifted(k, offset) for offset in _AROUND]
        corners = torch.stack([a & b for a, b in zip(around, around[1:] + around[:1], strict=True)])
        total = total + _mean(1 - (estimated * there).sum(-1), corners & k[..., 1:-1, 1:-1])
    return total / len(_NORMAL_STRIDES)


_AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1))  # rows and columns: above, left, below, right


def _normals(points: Tensor) -> Tensor:
    """Unit normals (4, ..., H - 2, W - 2, 3)."""
    middle = points[..., 1:-1, 1:-1, :]
    sides = [_shifted(points.movedim(-1, 0), offset).movedim(0, -1) - middle for offset in _AROUND]
    crossed = [
        torch.linalg.cross(a, b, dim=-1) for a, b in zip(sides, sides[1:] + sides[:1], strict=True)
    ]
    return normalize(torch.stack(crossed), dim=-1, eps=1e-8)


def _shifted(values: Tensor, offset: tuple[int, int]) -> Tensor:
    """The neighbours (..., H - 2, W - 2) at this offset of the inner pixels of values (..., H,
    W).
    """
    rows, columns = values.shape[-2:]
    return values[
        ..., 1 + offset[0] : rows - 1 + offset[0], 1 + offset[1] : columns - 1 + offset[1]
    ]


def _by_confidence(error: Tensor, confidence: Tensor, truth: DenseTruth, outliers: float) -> Tensor:
    error = error.clamp(max=_MAX_VALUE)
    weighted = error * confidence - _CONFIDENCE * confidence.log()
    return _mean(error, truth.known, outliers) + _mean(weighted, truth.known, outliers)


def _mean(values: Tensor, known: Tensor, outliers: float = 0.0) -> Tensor:
    """Mean of the known values, without the fraction of largest ones that `outliers` names; 0 where
    nothing is known.
    """
    if outliers == 0:
        return (values * known).sum() / known.sum().clamp(min=1)
    kept = values[known]
    if len(kept) > _FEW:
        kept = kept[
            kept <= kept.detach().kthvalue(max(1, round((1 - outliers) * len(kept)))).values
        ]
    return kept.sum() / max(1, len(kept))
