"""Predicted depth of the map frames beside the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.metrics import depth_abs_rel
from vggt3_ros.evaluation.result import DepthExample
from vggt3_ros.evaluation.sequence import Sequence
from vggt3_ros.pipeline.preprocess import prepare

_EXAMPLES = 4


@dataclass(frozen=True, eq=False)
class DepthComparison:
    """abs_rel and its scale (metres per scene unit), NaN without true depth, and a few frames for a picture.

    anchored_abs_rel: of the depths as the landmarks scaled them, in the map's own metres or those of its alignment; NaN
    without landmarks or true depth, infinite where there is no alignment.
    """

    abs_rel: float
    anchored_abs_rel: float
    scale: float
    frames: int
    examples: tuple[DepthExample, ...]


def compare_depth(
    sequence: Sequence,
    indices: Items[int],
    predicted: Tensor,
    anchored: Tensor | None,
    image_size: int,
    patch_size: int,
    metres_per_unit: float | None,
) -> DepthComparison:
    """Compare predicted z-depth (S, h, w), scene units, with the true depth of the frames `indices` (S).

    anchored: the same depth as scaled to the landmarks, None without. image_size and patch_size are the network's: true
    depth goes through the same preprocessing as the image. metres_per_unit, where known, scales the anchored depth, and
    the examples of a sequence without true depth.
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
    abs_rel, scale = depth_abs_rel([predictions[row] for row in truths], list(truths.values()))
    anchored_abs_rel = _anchored_abs_rel(anchored, truths, metres_per_unit)
    factor = scale if np.isfinite(scale) else metres_per_unit
    unit = "scene units" if factor is None else "m"
    examples = tuple(
        DepthExample(
            sequence.names[indices[row]], images[row], (factor or 1.0) * predictions[row], truths.get(row), unit
        )
        for row in sorted(shown)
    )
    return DepthComparison(abs_rel, anchored_abs_rel, scale, len(truths), examples)


def _anchored_abs_rel(
    anchored: Tensor | None, truths: Mapping[int, np.ndarray], metres_per_unit: float | None
) -> float:
    if anchored is None or not truths:
        return math.nan
    if metres_per_unit is None:
        return math.inf
    depths = [anchored[row].double().cpu().numpy() for row in truths]
    return depth_abs_rel(depths, list(truths.values()), metres_per_unit)[0]
