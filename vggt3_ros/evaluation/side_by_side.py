"""Plain COLMAP and this package on the same sequences: what is found, how right it is, and what it
takes.

Both are given the true poses of the map frames. Seconds are of the processor, of all threads
together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vggt3_ros.datasets.sequence import Sequence, Split, standard_splits
from vggt3_ros.evaluation.attempt import WRONG_POSITION_M, WRONG_ROTATION_DEG
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.colmap_baseline import ColmapMap
from vggt3_ros.evaluation.evaluate import EvaluationSettings, evaluate
from vggt3_ros.evaluation.metrics import pose_errors
from vggt3_ros.evaluation.number_text import shown
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.progress import StageProgress

SPLIT = "interleaved"


@dataclass(frozen=True)
class Row:
    """One method on one sequence.

    accepted of `queries`, `wrong` among them (beyond 0.5 m or 15 degrees); success: fraction of all
    queries within 10 cm and 10 degrees; medians are of the accepted, NaN without any. mapping_s,
    query_s: seconds of the processor for the map, and for a query on average once its image is
    read.
    """

    sequence: str
    method: str
    map_frames: int = field(metadata=figure("count"))
    queries: int = field(metadata=figure("count"))
    accepted: int = field(metadata=figure("count"))
    wrong: int = field(metadata=figure("count"))
    success: float = field(metadata=figure("share"))
    position_cm: float = field(metadata=figure("cm"))
    rotation_deg: float = field(metadata=figure("deg"))
    mapping_s: float = field(metadata=figure("s"))
    query_s: float = field(metadata=figure("s"))


def compare(
    sequence: Sequence,
    network: Any,
    progress: StageProgress | None = None,
    settings: EvaluationSettings | None = None,
) -> tuple[Row, Row]:
    """Rows of COLMAP and of a network (a Vggt3) with its landmarks, on the interleaved split of a
    sequence.

    Sequences without a split of that name get one of all their frames. What `settings` say of
    priors does not count. Raises ImportError without pycolmap, InputError for fewer than four
    frames.
    """
    settings = settings or EvaluationSettings()
    sequence = replace(
        sequence, splits={**standard_splits(range(len(sequence))), **sequence.splits}
    )
    split = sequence.split(SPLIT).limited(settings.max_map_frames, settings.max_query_frames)
    colmap = run_colmap(sequence, split, progress)
    return colmap, run_ours(sequence, split, network, settings, progress)


def run_colmap(sequence: Sequence, split: Split, progress: StageProgress | None = None) -> Row:
    """The row of plain COLMAP."""
    report = progress or (lambda stage, done: None)
    report("COLMAP maps", 0.0)
    begin = time.process_time()
    images = [sequence.read_image(index) for index in split.map]
    poses = sequence.world_from_cam[list(split.map)]
    colmap = ColmapMap(images, poses, sequence.intrinsics, sequence.distortion)
    mapping_s = time.process_time() - begin
    found = []
    query_s = []
    for done, index in enumerate(split.query):
        report("COLMAP localizes", 0.25 + 0.25 * done / len(split.query))
        image = sequence.read_image(index)
        begin = time.process_time()
        found.append(colmap.localize(image))
        query_s.append(time.process_time() - begin)
    position, rotation = pose_errors(found, sequence.world_from_cam[list(split.query)])
    return _row(sequence, split, "COLMAP", position, rotation, mapping_s, query_s)


def run_ours(
    sequence: Sequence,
    split: Split,
    network: Any,
    settings: EvaluationSettings,
    progress: StageProgress | None = None,
) -> Row:
    """The row of this package: what `vggt3 evaluate --priors given` does."""
    stopwatch = _Stopwatch(progress)
    settings = replace(settings, priors=Priors("given"))
    attempts = evaluate(sequence, network, SPLIT, settings, stopwatch).attempts
    position = np.array([each.position_m if each.accepted else np.inf for each in attempts])
    rotation = np.array([each.rotation_deg if each.accepted else np.inf for each in attempts])
    query_s = [each.cpu_seconds["total"] for each in attempts]
    return _row(sequence, split, "ours", position, rotation, stopwatch.mapping, query_s)


class _Stopwatch:
    """Seconds of the processor until an evaluation has its map."""

    def __init__(self, progress: StageProgress | None) -> None:
        self._report = progress
        self._begin = time.process_time()
        self._mapped: float | None = None

    def __call__(self, stage: str, done: float) -> None:
        if stage == "localize" and self._mapped is None:
            self._mapped = time.process_time()
        if self._report is not None:
            self._report(stage, 0.5 + 0.5 * done)

    @property
    def mapping(self) -> float:
        return (self._mapped or time.process_time()) - self._begin


def _row(
    sequence: Sequence,
    split: Split,
    method: str,
    position: np.ndarray,
    rotation: np.ndarray,
    mapping_s: float,
    query_s: Items[float],
) -> Row:
    """Figures from errors (Q,) in metres and degrees, infinite where no pose was accepted."""
    accepted = np.isfinite(position)
    wrong = accepted & ((position > WRONG_POSITION_M) | (rotation > WRONG_ROTATION_DEG))
    some = bool(accepted.any())
    return Row(
        sequence=sequence.name,
        method=method,
        map_frames=len(split.map),
        queries=len(position),
        accepted=int(accepted.sum()),
        wrong=int(wrong.sum()),
        success=float(np.mean((position <= 0.1) & (rotation <= 10))),
        position_cm=100 * float(np.median(position[accepted])) if some else float("nan"),
        rotation_deg=float(np.median(rotation[accepted])) if some else float("nan"),
        mapping_s=mapping_s,
        query_s=float(np.mean(query_s)),
    )


def markdown(rows: Items[Row]) -> str:
    """A table of the rows."""
    lines = [
        (
            "| sequence | | map frames | accepted | wrong | success 10 cm 10 deg | position median"
            " cm | rotation median deg | mapping s | a query s |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.sequence} | {row.method} | {row.map_frames} | {row.accepted} of {row.queries}"
            f" | {row.wrong} | {row.success:.2f} | {shown(row.position_cm, 2)} |"
            f" {shown(row.rotation_deg, 2)} | {row.mapping_s:.1f} | {row.query_s:.3f} |"
        )
    return "\n".join(lines)
