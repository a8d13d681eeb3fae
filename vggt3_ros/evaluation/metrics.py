"""Errors of estimated poses and depths against the truth: pure functions, each stating its
definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.collapse import collapse, least_fitted_ratio
from vggt3_ros.geometry.se3 import chordal_mean, rotation_angle, se3, se3_inverse
from vggt3_ros.geometry.sim3 import Sim3, fit_poses, umeyama

_COLLAPSED_SCALE = 1e-9
_DELTA = 1.25

Values = TypeVar("Values", np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class Alignment:
    """World from estimate. problem: why it means nothing (the positions do not follow the true
    ones), or None.
    """

    true_from_estimated: Sim3
    problem: str | None

    @property
    def collapsed(self) -> bool:
        """Whether it draws all positions together instead of aligning them."""
        return self.problem is not None


def trajectory_extent(world_from_cam: Tensor) -> float:
    """Diagonal in metres of the axis-parallel bounding box of the positions of poses (N, 4, 4)."""
    positions = world_from_cam[:, :3, 3]
    return float((positions.amax(0) - positions.amin(0)).norm())


def align_map(estimated: Tensor, true: Tensor) -> Alignment:
    """Similarity from estimated to true map poses, both (N, 4, 4) world_from_cam: fit_poses,
    whatever the scale.

    Where the estimated positions do not move with the true ones, the least-squares scale that is
    not negative is zero, and every camera lies at the mean true position. That, and a scale that
    draws all positions together, is a collapse: errors of such poses are those of the mean pose and
    must not be counted.
    """
    try:
        fit = fit_poses(estimated, true)
    except InputError:
        relative = chordal_mean(true[:, :3, :3] @ estimated[:, :3, :3].transpose(-1, -2))
        translation = true[:, :3, 3].mean(0) - _COLLAPSED_SCALE * relative @ estimated[
            :, :3, 3
        ].mean(0)
        problem = (
            "the estimated positions contradict the true ones, so that the best scale would be zero"
        )
        return Alignment(Sim3(_COLLAPSED_SCALE, relative, translation), problem)
    return Alignment(
        fit, collapse(fit.poses(estimated.double()), true, least_fitted_ratio(len(true)))
    )


def align_positions(estimated: Tensor, true: Tensor) -> Alignment:
    """Similarity from estimated to true poses, both (N, 4, 4), that brings their positions nearest
    (Umeyama 1991).

    Where positions alone do not determine it (two frames, motion along one line) the orientations
    help: align_map.
    """
    try:
        fit = umeyama(estimated[:, :3, 3], true[:, :3, 3])
    except InputError:
        fit = align_map(estimated, true).true_from_estimated
    return Alignment(
        fit, collapse(fit.poses(estimated.double()), true, least_fitted_ratio(len(true)))
    )


def absolute_trajectory_error(estimated: Tensor, true: Tensor) -> float:
    """Rms distance in metres of positions of (N, 4, 4) poses after the Sim(3) that makes it least:
    align_positions.

    Infinite where that similarity draws all positions together, since the rest is the error of
    their mean.
    """
    alignment = align_positions(estimated, true)
    if alignment.collapsed:
        return math.inf
    aligned = alignment.true_from_estimated.poses(estimated.double())
    return float((aligned - true)[:, :3, 3].square().sum(-1).mean().sqrt())


def pair_errors(estimated: Tensor, true: Tensor, min_baseline_m: float) -> tuple[float, float]:
    """Medians over all pairs i < j of (N, 4, 4) poses: relative rotation, and direction of the
    translation, in degrees.

    The direction is that from camera i to camera j, seen in camera i, sign included. Pairs whose
    true baseline is below min_baseline_m have no direction worth measuring and are left out of the
    second median (NaN if none remains); an estimate that does not move at all counts as 90 degrees
    off.
    """
    first, second = torch.triu_indices(len(true), len(true), offset=1)
    estimated_pairs = se3_inverse(estimated[first]) @ estimated[second]
    true_pairs = se3_inverse(true[first]) @ true[second]
    rotation = rotation_angle(estimated_pairs[:, :3, :3].transpose(-1, -2) @ true_pairs[:, :3, :3])
    a = estimated_pairs[:, :3, 3]
    b = true_pairs[:, :3, 3]
    direction = torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))
    direction = torch.where(a.norm(dim=-1) > 0, direction, math.pi / 2)
    direction = direction[b.norm(dim=-1) >= min_baseline_m]
    degrees = (rotation.rad2deg().numpy(), direction.rad2deg().numpy())
    return float(np.median(degrees[0])), float(np.median(degrees[1])) if len(
        direction
    ) else math.nan


def pose_errors(estimated: Items[Tensor | None], true: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Position errors in metres and rotation errors in degrees, both (Q,), of estimates against
    true (Q, 4, 4).

    None is a query for which no pose was given (LOST); both of its errors are infinite.
    """
    position = np.full(len(true), np.inf)
    rotation = np.full(len(true), np.inf)
    for i, (estimate, truth) in enumerate(zip(estimated, true, strict=True)):
        if estimate is not None:
            position[i] = float((estimate[:3, 3] - truth[:3, 3]).norm())
            rotation[i] = float(rotation_angle(estimate[:3, :3].T @ truth[:3, :3]).rad2deg())
    return position, rotation


@dataclass(frozen=True)
class LocalizationErrors:
    """Errors of the answers to queries.

    Successes are fractions (0 to 1) of all queries, and medians run over all queries, so that
    refusing to answer never improves them: with half of the queries lost the median is infinite.
    Means run over the answered queries alone (NaN without any) and are to be read together with the
    number of lost ones.
    """

    median_position_percent: float = field(metadata=figure("% of the extent"))
    median_rotation_deg: float = field(metadata=figure("deg"))
    mean_position_m: float = field(metadata=figure("m"))
    mean_rotation_deg: float = field(metadata=figure("deg"))
    median_position_m: float = field(metadata=figure("m"))
    success_10cm_10deg: float = field(metadata=figure("share"))
    success_20cm_20deg: float = field(metadata=figure("share"))


def localization_errors(
    position_m: np.ndarray, rotation_deg: np.ndarray, extent_m: float
) -> LocalizationErrors:
    """From errors (Q,) in metres and degrees, infinite for a LOST query; percent is of extent_m.
    Raises InputError without any query.
    """
    if len(position_m) == 0:
        raise InputError(
            "there are no query errors to summarize; a split needs at least one query frame"
        )
    answered = np.isfinite(position_m)
    median_m = float(np.median(position_m))
    return LocalizationErrors(
        median_position_percent=100 * median_m / extent_m if extent_m > 0 else math.nan,
        median_rotation_deg=float(np.median(rotation_deg)),
        mean_position_m=float(position_m[answered].mean()) if answered.any() else math.nan,
        mean_rotation_deg=float(rotation_deg[answered].mean()) if answered.any() else math.nan,
        median_position_m=median_m,
        success_10cm_10deg=success(position_m, rotation_deg, 10),
        success_20cm_20deg=success(position_m, rotation_deg, 20),
    )


def success(position_m: np.ndarray, rotation_deg: np.ndarray, limit: int) -> float:
    """Fraction (0 to 1) of queries with errors (Q,) of at most `limit` centimetres and as many
    degrees.
    """
    return float(np.mean((position_m <= limit / 100) & (rotation_deg <= limit)))


@dataclass(frozen=True)
class DepthErrors:
    """abs_rel: mean of |scale * predicted - true| / true; delta_1_25: fraction of pixels that are
    less than 1.25 times too far or too near; scale in metres per unit. Of `pixels` whose true and
    predicted depth is known; NaN without any.
    """

    abs_rel: float
    delta_1_25: float
    scale: float
    pixels: int


def depth_errors(
    predicted: Items[np.ndarray], true: Items[np.ndarray], scale: float | None = None
) -> DepthErrors:
    """Errors of predicted depth images in scene units against true ones in metres, in both of which
    0 is unknown.

    One scale for the whole sequence: the one given, otherwise the median of true / predicted over
    all pixels of all frames that have a true depth.
    """
    known = [(t > 0) & np.isfinite(t) & (p > 0) for p, t in zip(predicted, true, strict=True)]
    p = np.concatenate(
        [image[mask] for image, mask in zip(predicted, known, strict=True)] or [np.empty(0)]
    )
    t = np.concatenate(
        [image[mask] for image, mask in zip(true, known, strict=True)] or [np.empty(0)]
    )
    if len(t) == 0:
        return DepthErrors(math.nan, math.nan, math.nan, 0)
    if scale is None:
        scale = float(np.median(t / p))
    ratio = scale * p / t
    return DepthErrors(
        float(np.mean(np.abs(ratio - 1))), float(np.mean(is_within_delta(ratio))), scale, len(t)
    )


def is_within_delta(ratio: Values) -> Values:
    """Whether depth that is `ratio` times the true one, elementwise, is less than 1.25 times too
    far or too near.
    """
    return (ratio < _DELTA) & (ratio > 1 / _DELTA)


def mean_pose(world_from_cam: Tensor) -> Tensor:
    """Mean position and chordal mean rotation of poses (N, 4, 4), as a pose (4, 4)."""
    return se3(chordal_mean(world_from_cam[:, :3, :3]), world_from_cam[:, :3, 3].mean(0))
