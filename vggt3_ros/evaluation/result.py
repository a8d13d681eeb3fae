"""What one evaluation leaves: figures for JSON and tables, and the poses, points and depths its pictures show."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.sequence import Sequence, Split
from vggt3_ros.geometry.pointcloud import PointCloud

DEFINITIONS = {
    "trajectory_extent_m": "diagonal of the axis-parallel bounding box of the true positions of map and query frames",
    "ate": "rms position error of the map frames after the best Sim(3) of positions; percent of trajectory_extent_m",
    "pair_rotation_deg": "median over all pairs of map frames",
    "pair_direction_deg": "median over the pairs of map frames at least 1 % of trajectory_extent_m apart",
    "depth_abs_rel": "mean of |scale * predicted - true| / true over all map frames, one scale (median) per sequence",
    "localization": "after the Sim(3) of the map poses alone, or the scene's own when priors were given; success and "
    "medians count every query, a LOST one as a failure of infinite error; means are of answered queries; "
    "null = infinite or not defined",
    "mean_pose": "every query is given the mean true pose of the map frames",
    "nearest_image": "every query is given the true pose of the map frame with the most similar 32x24 grey thumbnail",
    "peak_rss_bytes": "of the whole process since its start",
}


@dataclass(frozen=True, eq=False)
class DepthExample:
    """A map frame as the network saw it: image (h, w, 3) uint8, predicted and true z-depth (h, w).

    unit is "m" for predictions scaled to metres (one scale for the sequence), or "scene units" when no scale was to
    be had. true is in metres, 0 where unknown, None without true depth.
    """

    name: str
    image: np.ndarray
    predicted: np.ndarray
    true: np.ndarray | None
    unit: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`; all poses are world_from_cam in metres of the true world.

    map_indices name the map frames in use and map_poses (M, 4, 4) their estimates; query_poses has one (4, 4), or
    None for LOST, per split.query. figures hold the numbers; they may be infinite or NaN, which to_json turns to null.
    """

    sequence: Sequence
    split: Split
    map_indices: tuple[int, ...]
    map_poses: Tensor
    query_poses: tuple[Tensor | None, ...]
    points: PointCloud
    depth_examples: tuple[DepthExample, ...]
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The figures with their definitions, ready for json.dump in strict JSON."""
        return without_infinities({**self.figures, "definitions": DEFINITIONS})


def aggregate(evaluations: Items[Evaluation]) -> dict[str, Any]:
    """Medians over sequences of every figure of `map`, `localization` and `baselines`, in the layout of one evaluation.

    A figure that is not defined for a sequence (NaN, such as depth without truth) is left out of its median; an
    infinite one counts. Counts of queries are sums. Raises InputError for an empty list.
    """
    if not evaluations:
        raise InputError("there are no evaluations to aggregate; evaluate at least one sequence")
    figures = [evaluation.figures for evaluation in evaluations]
    return {
        "sequence": f"median of {len(figures)} sequences",
        "sequences": [each["sequence"] for each in figures],
        "trajectory_extent_m": _median([each["trajectory_extent_m"] for each in figures]),
        "map": _medians([each["map"] for each in figures]),
        "localization": _medians([each["localization"] for each in figures]),
        "baselines": _medians([each["baselines"] for each in figures]),
        "queries": {key: sum(each["queries"][key] for each in figures) for key in ("total", "answered", "lost")},
    }


def without_infinities(value: Any) -> Any:
    """A copy of nested dicts and lists in which every NaN or infinite number is None, since JSON has neither."""
    if isinstance(value, dict):
        return {key: without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinities(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return copy.copy(value)


def _medians(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the numbers in blocks of one layout; entries that are neither numbers nor blocks are left out."""
    medians: dict[str, Any] = {}
    for key, value in blocks[0].items():
        items = [block[key] for block in blocks]
        if isinstance(value, dict):
            medians[key] = _medians(items)
        elif isinstance(value, int | float):
            medians[key] = _median(items)
    return medians


def _median(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.median(defined)) if defined else math.nan
