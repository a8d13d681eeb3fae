"""Where metres come from when no poses are given: measured depth, or the known height of the camera
over the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.robust import robust_deviation
from vggt3_ros.pipeline.upright import Plane

DEPTH = "depth"
CAMERA_HEIGHT = "camera_height"
NONE = "none"

_MIN_PIXELS = 100  # with measured depth, for a frame to have a say
_DOUBTFUL = 0.3  # fraction of a frame's pixels that the network is least sure of
_MAX_SPREAD = 0.5  # between frames' scales: at 0.5 one in three is off by more than half
_MAX_HEIGHT_SPREAD = 0.25  # beyond, the camera was not carried at one height


@dataclass(frozen=True)
class ScaleEstimate:
    """Metres per scene unit, or None; its source ("depth", "camera_height", "none") and in words
    how or why not.

    residual: robust relative spread (1.4826 MAD) of what it was estimated from, None if nothing
    was.
    """

    scale: float | None
    source: str
    reason: str
    residual: float | None = None


def scale_from_depth(
    predicted: Tensor, measured: Tensor, confidence: Tensor | None = None
) -> ScaleEstimate:
    """Scale at which predicted depth (S, h, w), scene units, is what was measured (S, h, w),
    metres, 0 or NaN unknown.

    The median over the frames of each frame's median ratio, over the pixels that are not among the
    least confident (confidence (S, h, w)). None when frames contradict each other or have too few
    measured pixels.
    """
    if measured.shape != predicted.shape or (
        confidence is not None and confidence.shape != predicted.shape
    ):
        shapes = [tuple(t.shape) for t in (predicted, measured, confidence) if t is not None]
        raise InputError(f"depths and confidence must have one shape (S, h, w), got {shapes}")
    known = measured.isfinite() & (measured > 0) & predicted.isfinite() & (predicted > 0)
    logs = []
    most = 0
    for frame in range(len(predicted)):
        mask = known[frame]
        if confidence is not None and bool(mask.any()):
            mask = mask & (
                confidence[frame] >= confidence[frame][mask].double().quantile(_DOUBTFUL)
            )
        most = max(most, int(mask.sum()))
        if int(mask.sum()) >= _MIN_PIXELS:
            logs.append(
                (measured[frame][mask].double() / predicted[frame][mask].double())
                .log()
                .quantile(0.5)
            )
    if not logs:
        figures = f"at most {most} pixels of a frame can be compared, {_MIN_PIXELS} are needed"
        return ScaleEstimate(None, NONE, f"too little depth was measured: {figures}")
    scales = torch.stack(logs)
    scale = float(scales.quantile(0.5).exp())
    spread = _spread(scales)
    if spread > _MAX_SPREAD:
        figures = f"spread {spread:.0%} over {len(logs)} frames, {_MAX_SPREAD:.0%} is allowed"
        return ScaleEstimate(
            None,
            NONE,
            f"the frames' depths contradict each other about the scale: {figures}",
            spread,
        )
    return ScaleEstimate(
        scale, DEPTH, f"measured depth of {len(logs)} frames, spread {spread:.1%}", spread
    )


def scale_from_height(
    world_from_cam: Tensor, floor: Plane | None, height_m: float
) -> ScaleEstimate:
    """Scale at which the cameras (S, 4, 4), scene units, ride height_m metres above the floor
    (their median).

    None without a floor, or when the cameras rode at heights too different.
    """
    if not (height_m > 0 and math.isfinite(height_m)):
        raise InputError(
            f"the camera's height above the floor is {height_m} m; give a positive number of metres"
        )
    if floor is None:
        return ScaleEstimate(
            None, NONE, "no floor stands out among the points, so the camera's height says nothing"
        )
    heights = floor.height(world_from_cam[:, :3, 3].double())
    middle = float(heights.quantile(0.5))
    if not middle > 0:
        return ScaleEstimate(
            None, NONE, f"half of the cameras lie below the floor (median height {middle:.3g})"
        )
    spread = _spread(heights / middle)
    if spread > _MAX_HEIGHT_SPREAD:
        figures = f"spread {spread:.0%}, {_MAX_HEIGHT_SPREAD:.0%} is allowed"
        return ScaleEstimate(
            None, NONE, f"the cameras' heights above the floor differ too much: {figures}", spread
        )
    reason = f"camera {height_m:g} m above the floor, spread {spread:.1%}"
    return ScaleEstimate(height_m / middle, CAMERA_HEIGHT, reason, spread)


def first_found(*estimates: ScaleEstimate) -> ScaleEstimate:
    """The first estimate with a scale, otherwise one with all their reasons."""
    for estimate in estimates:
        if estimate.scale is not None:
            return estimate
    return ScaleEstimate(None, NONE, "; ".join(estimate.reason for estimate in estimates))


def _spread(values: Tensor) -> float:
    """Robust standard deviation of values around their median."""
    return robust_deviation(values - values.quantile(0.5))
