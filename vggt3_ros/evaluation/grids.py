"""Occupancy grids of procedural places, beside their true grids."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass, field
from typing import Any

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.evaluation.averages import mean_of_defined
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.true_grid import score, true_grid
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.scene_grid import scene_grid

_SHARES = ("occupied_iou", "occupied_iou_near", "free_iou", "unknown")
_COUNTS = ("free_inside", "false_occupied")


@dataclass(frozen=True)
class GridRow:
    """What the grid of a place is worth, mapped with its true poses; figures as in
    `true_grid.GridScore`.

    reason: why there is no grid; the figures are then those of none. seconds: of making the grid
    from the scene.
    """

    place: str
    reason: str = ""
    occupied_iou: float = field(default=0.0, metadata=figure("ratio"))
    occupied_iou_near: float = field(default=0.0, metadata=figure("ratio"))
    free_iou: float = field(default=0.0, metadata=figure("ratio"))
    free_inside: int = field(default=0, metadata=figure("count"))
    false_occupied: int = field(default=0, metadata=figure("count"))
    unknown: float = field(default=1.0, metadata=figure("ratio"))
    seconds: float = field(default=0.0, metadata=figure("s"))


def grid_row(
    sequence: Sequence,
    network: Any,
    dense: DenseSettings,
    settings: GridSettings | None = None,
    progress: Callable[[], None] | None = None,
) -> GridRow:
    """Map the map frames of a procedural place with their true poses as priors, make the grid of
    the scene, and compare it with the true one. Raises InputError for other places.
    """
    settings = settings or GridSettings()
    indices = sequence.split().map
    truth = true_grid(sequence, indices, settings, progress)
    frames = [sequence.frame(index, with_prior=True) for index in indices]
    try:
        scene = reconstruct(frames, network, ReconstructionSettings(dense=dense)).scene
        begin = time.perf_counter()
        grid = scene_grid(scene, settings)
    except Vggt3Error as error:
        return GridRow(sequence.name, str(error))
    seconds = time.perf_counter() - begin
    return GridRow(sequence.name, seconds=seconds, **asdict(score(grid, truth)))


def heading() -> str:
    """First line of the table."""
    return (
        f"{'place':<22}{'occupied IoU':>13}{'to a cell':>11}{'free IoU':>10}{'free inside':>13}"
        f"{'false occupied':>16}{'unknown':>9}{'s':>7}"
    )


def line(row: GridRow) -> str:
    """One line of the table."""
    return (
        f"{row.place:<22}{row.occupied_iou:>13.2f}{row.occupied_iou_near:>11.2f}"
        f"{row.free_iou:>10.2f}"
        f"{row.free_inside:>13}{row.false_occupied:>16}{row.unknown:>9.2f}{row.seconds:>7.1f}"
        f"  {row.reason}"
    ).rstrip()


def totals(rows: Items[GridRow]) -> dict[str, float]:
    """Places, means of the shares, and sums of the counts, over all rows."""

    def column(name: str) -> list[Any]:
        return [getattr(row, name) for row in rows]

    shares = {name: mean_of_defined(column(name)) for name in _SHARES}
    counts = {name: sum(column(name)) for name in _COUNTS}
    return {"places": len(rows), **shares, **counts}
