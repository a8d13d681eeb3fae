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
# When prior poses are trusted with the scale of a scene.
MIN_EXTENT_M = 0.05  # largest distance between two of them
_MIN_AGREEING = 0.5  # fraction of them that agree with one similarity
_MAX_RESIDUAL = 0.5  # rms, of their rms spread


@dataclass(frozen=True, eq=False)
class MetricAlignment:
    """The similarity or None; source is "pose_priors" or "none: " and why; outliers are indices of
    frames.
    """

    metric_from_scene: Sim3 | None
    source: str
    residual_m: float | None = None
    outliers: tuple[int, ...] = ()


def align_with_priors(world_from_cam: Tensor, priors: Mapping[int, Tensor]) -> MetricAlignment:
    """Align world_from_cam (S, 4, 4), scene units, with the prior poses (4, 4) that some of the S
    frames have.
    """
    problem = priors_problem(priors)
    if problem is not None:
        return _none(problem)
    target = torch.stack(list(priors.values()))
    try:
        fit = robust_umeyama(world_from_cam[list(priors)].double(), target)
    except InputError as error:
        return _none(str(error))
    agreeing = int(fit.inliers.sum())
    outliers = tuple(i for i, fits in zip(priors, fit.inliers.tolist(), strict=True) if not fits)
    if agreeing < max(3, _MIN_AGREEING * len(priors)):
        return _none(
            f"only {agreeing} of {len(priors)} prior poses agree with the reconstruction", outliers
        )
    positions = target[fit.inliers, :3, 3]
    spread = float((positions - positions.mean(0)).square().sum(-1).mean().sqrt())
    if fit.residual > _MAX_RESIDUAL * spread:
        figures = f"{fit.residual:.3g} m rms at a spread of {spread:.3g} m"
        return _none(f"the prior poses contradict the reconstruction ({figures})", outliers)
    return MetricAlignment(fit.target_from_source, POSE_PRIORS, fit.residual, outliers)


def priors_problem(priors: Mapping[int, Tensor], min_extent_m: float = MIN_EXTENT_M) -> str | None:
    """Why prior poses (4, 4) of frames cannot give a map its scale, judged by themselves; None when
    they can.

    min_extent_m: metres that they must spread over, the largest distance between two.
    """
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
    if extent < min_extent_m:
        return f"the prior poses spread over {extent:.3g} m, {min_extent_m:g} m are needed"
    return None


def _none(why: str, outliers: tuple[int, ...] = ()) -> MetricAlignment:
    return MetricAlignment(None, f"none: {why}", None, outliers)
