"""The scale of a scene: aligning the reconstructed cameras with the prior poses that frames came
with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.sim3 import Sim3, robust_umeyama

POSE_PRIORS = "pose_priors"


@dataclass(frozen=True)
class AlignmentSettings:
    """When prior poses are trusted with the scale of a scene.

    They must spread over min_extent_m (largest distance between two); at least min_agreeing of them
    (share) must agree with one similarity, and their rms residual must stay below max_residual
    times their rms spread.
    """

    min_extent_m: float = 0.05
    min_agreeing: float = 0.5
    max_residual: float = 0.5

    def __post_init__(self) -> None:
        if not (self.min_extent_m >= 0 and 0 <= self.min_agreeing <= 1 and self.max_residual > 0):
            raise InputError(
                f"alignment settings are out of range: {self}; see their documentation"
            )


@dataclass(frozen=True, eq=False)
class MetricAlignment:
    """The similarity or None; source is "pose_priors" or "none: " and why; outliers are indices of
    frames.
    """

    metric_from_scene: Sim3 | None
    source: str
    residual_m: float | None = None
    outliers: tuple[int, ...] = ()


def align_with_priors(
    world_from_cam: Tensor, priors: Mapping[int, Tensor], settings: AlignmentSettings | None = None
) -> MetricAlignment:
    """Align world_from_cam (S, 4, 4), scene units, with the prior poses (4, 4) that some of the S
    frames have.
    """
    settings = settings or AlignmentSettings()
    problem = priors_problem(priors, settings)
    if problem is not None:
        return _none(problem)
    target = torch.stack(list(priors.values()))
    try:
        fit = robust_umeyama(world_from_cam[list(priors)].double(), target)
    except InputError as error:
        return _none(str(error))
    agreeing = int(fit.inliers.sum())
    outliers = tuple(i for i, fits in zip(priors, fit.inliers.tolist(), strict=True) if not fits)
    if agreeing < max(3, settings.min_agreeing * len(priors)):
        return _none(
            f"only {agreeing} of {len(priors)} prior poses agree with the reconstruction", outliers
        )
    positions = target[fit.inliers, :3, 3]
    spread = float((positions - positions.mean(0)).square().sum(-1).mean().sqrt())
    if fit.residual > settings.max_residual * spread:
        figures = f"{fit.residual:.3g} m rms at a spread of {spread:.3g} m"
        return _none(f"the prior poses contradict the reconstruction ({figures})", outliers)
    return MetricAlignment(fit.target_from_source, POSE_PRIORS, fit.residual, outliers)


def priors_problem(
    priors: Mapping[int, Tensor], settings: AlignmentSettings | None = None
) -> str | None:
    """Why prior poses (4, 4) of frames cannot give a map its scale, judged by themselves; None when
    they can.
    """
    settings = settings or AlignmentSettings()
    if not priors:
        return "no frame has a prior pose"
    if len(priors) < 3:
        return f"{len(priors)} frames have a prior pose, 3 are needed"
    damaged = [index for index, prior in priors.items() if not bool(prior.isfinite().all())]
    if damaged:
        return (
            f"the prior pose of frame {damaged[0]} contains NaN or infinity (as do"
            f" {len(damaged) - 1} others)"
        )
    positions = torch.stack(list(priors.values()))[:, :3, 3].double()
    extent = float(torch.cdist(positions, positions).max())
    if extent < settings.min_extent_m:
        return f"the prior poses spread over {extent:.3g} m, {settings.min_extent_m:g} m are needed"
    return None


def _none(why: str, outliers: tuple[int, ...] = ()) -> MetricAlignment:
    return MetricAlignment(None, f"none: {why}", None, outliers)
