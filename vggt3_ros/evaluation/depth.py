"""Predicted depth of the map frames beside the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.metrics import DepthErrors, depth_errors
from vggt3_ros.evaluation.provenance import RefinedDepth, RefinedFrames, refined_figures
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.preprocess import prepare

_EXAMPLES = 4


@dataclass(frozen=True, eq=False)
class DepthExample:
    """A map frame as the network saw it: image (h, w, 3) uint8, predicted and true z-depth (h, w).

    unit is "m" for predictions scaled to metres (one scale for the sequence), or "scene units" when
    no scale was to be had. true is in metres, 0 where unknown, None without true depth.
    """

    name: str
    image: np.ndarray
    predicted: np.ndarray
    true: np.ndarray | None
    unit: str


@dataclass(frozen=True)
class DepthFigures:
    """Errors of depth as predicted, with one scale for the sequence (metres per scene unit), and as
    anchored: scaled to the landmarks, in the map's own metres or those of its alignment; of how
    many frames.

    Errors are NaN without true depth or landmarks, and those of anchored depth infinite where there
    is no alignment.
    """

    depth_abs_rel: float = field(
        metadata=figure(
            "ratio",
            "mean of |scale * predicted - true| / true over all map frames, one scale (median) per"
            " sequence",
        )
    )
    depth_abs_rel_anchored: float = field(
        metadata=figure(
            "ratio",
            "the same of the depths as scaled to the landmarks of each keyframe, in the map's own "
            "metres or those of its alignment; null without landmarks",
        )
    )
    depth_delta_1_25: float = field(
        metadata=figure(
            "share",
            "share of these pixels whose depth, so scaled, is less than 1.25 times too far or too"
            " near; depth_delta_1_25_anchored: of the anchored depths",
        )
    )
    depth_delta_1_25_anchored: float = field(metadata=figure("share"))
    depth_scale: float = field(metadata=figure("m per scene unit"))
    depth_frames: float = field(metadata=figure("count"))
    depth_refined: RefinedDepth | None = field(
        metadata=figure(
            definition=(
                "the same two of depth refined by the views of each other, for all pixels and"
                " by_provenance: none (not known), agreed (several frames see the surface), plane"
                " (carried on by a plane), near and far (filled by the network's shape, near to"
                " what is known or not); share: of the pixels whose true depth is known, size_wh:"
                " of the refined images; by_expected_error: means of what was expected (for a point"
                " 0.01 m / confidence) and of what was measured; only where depth was refined and"
                " there is truth"
            ),
            optional=True,
        )
    )


@dataclass(frozen=True)
class LiveDepthFigures:
    """Errors of the depth of verified queries, NaN without truth; ms: mean of refining it, NaN
    where it was not.
    """

    frames: float = field(metadata=figure("count"))
    abs_rel: float = field(metadata=figure("ratio"))
    delta_1_25: float = field(metadata=figure("share"))
    ms: float = field(metadata=figure("ms"))


@dataclass(frozen=True, eq=False)
class DepthComparison:
    """Depth of the map frames beside the truth, and a few of them for a picture."""

    figures: DepthFigures
    examples: tuple[DepthExample, ...]


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
    """Compare predicted z-depth (S, h, w), scene units, with the true depth of the frames `indices`
    (S).

    anchored: the same depth as scaled to the landmarks, None without. image_size and patch_size are
    the network's: true depth goes through the same preprocessing as the image. metres_per_unit,
    where known, scales the anchored depth, and the examples of a sequence without true depth;
    metres_per_map_unit scales the refined depth.
    """
    predictions = list(predicted.double().cpu().numpy())
    shown = _example_rows(len(indices))
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
            pixels = prepared.images[0].permute(1, 2, 0) * 255
            images[row] = pixels.round().to(torch.uint8).numpy()
    errors = depth_errors([predictions[row] for row in truths], list(truths.values()))
    factor = errors.scale if np.isfinite(errors.scale) else metres_per_unit
    unit = "scene units" if factor is None else "m"
    examples = tuple(
        DepthExample(
            sequence.names[indices[row]],
            images[row],
            (factor or 1.0) * predictions[row],
            truths.get(row),
            unit,
        )
        for row in sorted(shown)
    )
    anchored_errors = _anchored_errors(anchored, truths, metres_per_unit)
    figures = DepthFigures(
        depth_abs_rel=errors.abs_rel,
        depth_abs_rel_anchored=anchored_errors.abs_rel,
        depth_delta_1_25=errors.delta_1_25,
        depth_delta_1_25_anchored=anchored_errors.delta_1_25,
        depth_scale=errors.scale,
        depth_frames=len(truths),
        depth_refined=(
            _refined_errors(sequence, indices, refined, metres_per_map_unit) if truths else None
        ),
    )
    return DepthComparison(figures, examples)


def _example_rows(frames: int) -> set[int]:
    """Rows of a few frames, evenly spaced, of which there are examples."""
    evenly_spaced = np.linspace(0, frames - 1, min(_EXAMPLES, frames))
    return set(evenly_spaced.round().astype(int).tolist())


def live_depth_figures(
    sequence: Sequence,
    indices: Items[int],
    localizations: Items[Localization],
    image_size: int,
    patch_size: int,
    metres_per_map_unit: float | None,
) -> LiveDepthFigures:
    """AbsRel and delta < 1.25 of the depth of verified queries `indices`, in the map's own metres
    or those of its alignment, and milliseconds of its refinement; NaN without true depth, and where
    it was not refined.
    """
    predicted = []
    true = []
    seconds = []
    for index, found in zip(indices, localizations, strict=True):
        if found.status is not LocalizationStatus.VERIFIED or found.depth is None:
            continue
        seconds.append(found.seconds.get("depth", math.nan))
        prepared = prepare([sequence.frame(index, with_depth=True)], image_size, patch_size)
        if prepared.depth is not None:
            predicted.append(found.depth.double().numpy())
            true.append(prepared.depth[0].double().numpy())
    errors = (
        depth_errors([], [])
        if metres_per_map_unit is None
        else depth_errors(predicted, true, metres_per_map_unit)
    )
    return LiveDepthFigures(
        frames=len(true),
        abs_rel=errors.abs_rel,
        delta_1_25=errors.delta_1_25,
        ms=1000 * float(np.mean(seconds)) if seconds else math.nan,
    )


def _refined_errors(
    sequence: Sequence,
    indices: Items[int],
    refined: RefinedFrames | None,
    metres_per_unit: float | None,
) -> RefinedDepth | None:
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
