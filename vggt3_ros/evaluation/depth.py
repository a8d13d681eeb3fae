"""Predicted depth of the map frames beside the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.metrics import DepthErrors, depth_errors
from vggt3_ros.evaluation.provenance import RefinedFrames, refined_figures
from vggt3_ros.evaluation.result import DepthExample
from vggt3_ros.evaluation.sequence import Sequence
from vggt3_ros.pipeline.localize import Localization, LocalizationStatus
from vggt3_ros.pipeline.preprocess import prepare

_EXAMPLES = 4


@dataclass(frozen=True, eq=False)
class DepthComparison:
    """Errors of depth as predicted, with one scale for the sequence (metres per scene unit), and as anchored: scaled to
    the landmarks, in the map's own metres or those of its alignment; of how many frames, and a few for a picture.

    Errors are NaN without true depth or landmarks, and those of anchored depth infinite where there is no alignment.
    refined: figures of refined depth, None where there are none.
    """

    predicted: DepthErrors
    anchored: DepthErrors
    refined: dict[str, Any] | None
    frames: int
    examples: tuple[DepthExample, ...]

    @property
    def figures(self) -> dict[str, Any]:
        """What the block `map` of an evaluation tells of depth."""
        return {
            "depth_abs_rel": self.predicted.abs_rel,
            "depth_abs_rel_anchored": self.anchored.abs_rel,
            "depth_delta_1_25": self.predicted.delta_1_25,
            "depth_delta_1_25_anchored": self.anchored.delta_1_25,
            "depth_scale": self.predicted.scale,
            "depth_frames": self.frames,
            **({} if self.refined is None else {"depth_refined": self.refined}),
        }


def compare_depth(
    sequence: Sequence,
    indices: Items[int],
    predicted: Tensor,
    anchored: Tensor | None,
    image_size: int,
    patch_size: int,
    metres_per_unit: float | None,
    refined: RefinedFrames | None = None,
    metres_per_map_unit: float | None = None,
) -> DepthComparison:
    """Compare predicted z-depth (S, h, w), scene units, with the true depth of the frames `indices` (S).

    anchored: the same depth as scaled to the landmarks, None without. image_size and patch_size are the network's: true
    depth goes through the same preprocessing as the image. metres_per_unit, where known, scales the anchored depth, and
    the examples of a sequence without true depth; metres_per_map_unit scales the refined depth.
    """
    predictions = list(predicted.double().cpu().numpy())
    shown = set(np.linspace(0, len(indices) - 1, min(_EXAMPLES, len(indices))).round().astype(int).tolist())
    truths: dict[int, np.ndarray] = {}
    images: dict[int, np.ndarray] = {}
    for row, index in enumerate(indices):
        frame = sequence.frame(index, with_depth=True)
        if frame.depth is None and row not in shown:
            continue
        prepared = prepare([frame], image_size, patch_size)
        if prepared.depth is not None:
            truths[row] = prepared.depth[0].double().numpy()
        if row in shown:
            images[row] = (prepared.images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    errors = depth_errors([predictions[row] for row in truths], list(truths.values()))
    factor = errors.scale if np.isfinite(errors.scale) else metres_per_unit
    unit = "scene units" if factor is None else "m"
    examples = tuple(
        DepthExample(
            sequence.names[indices[row]], images[row], (factor or 1.0) * predictions[row], truths.get(row), unit
        )
        for row in sorted(shown)
    )
    return DepthComparison(
        errors,
        _anchored_errors(anchored, truths, metres_per_unit),
        _refined_errors(sequence, indices, refined, metres_per_map_unit) if truths else None,
        len(truths),
        examples,
    )


def live_depth_figures(
    sequence: Sequence,
    indices: Items[int],
    localizations: Items[Localization],
    image_size: int,
    patch_size: int,
    metres_per_map_unit: float | None,
) -> dict[str, Any]:
    """AbsRel and delta < 1.25 of the depth of verified queries `indices`, in the map's own metres or those of its
    alignment, and milliseconds of its refinement; NaN without true depth, and where it was not refined.
    """
    predicted, true, seconds = [], [], []
    for index, found in zip(indices, localizations, strict=True):
        if found.status is not LocalizationStatus.VERIFIED or found.depth is None:
            continue
        seconds.append(found.seconds.get("depth", math.nan))
        prepared = prepare([sequence.frame(index, with_depth=True)], image_size, patch_size)
        if prepared.depth is not None:
            predicted.append(found.depth.double().numpy())
            true.append(prepared.depth[0].double().numpy())
    errors = depth_errors([], []) if metres_per_map_unit is None else depth_errors(predicted, true, metres_per_map_unit)
    return {
        "frames": len(true),
        "abs_rel": errors.abs_rel,
        "delta_1_25": errors.delta_1_25,
        "ms": 1000 * float(np.mean(seconds)) if seconds else math.nan,
    }


def _refined_errors(
    sequence: Sequence, indices: Items[int], refined: RefinedFrames | None, metres_per_unit: float | None
) -> dict[str, Any] | None:
    if refined is None or metres_per_unit is None:
        return None
    return refined_figures(sequence, indices, refined, metres_per_unit)


def _anchored_errors(
    anchored: Tensor | None, truths: Mapping[int, np.ndarray], metres_per_unit: float | None
) -> DepthErrors:
    if anchored is None or not truths:
        return depth_errors([], [])
    if metres_per_unit is None:
        return DepthErrors(math.inf, 0.0, math.nan, 0)
    depths = [anchored[row].double().cpu().numpy() for row in truths]
    return depth_errors(depths, list(truths.values()), metres_per_unit)
