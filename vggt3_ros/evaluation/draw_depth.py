"""Picture of depth: image, true depth, predicted depth and error of a few map frames, on one
scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggt3_ros.evaluation.depth import DepthExample
from vggt3_ros.evaluation.draw_top_view import new_figure
from vggt3_ros.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec
    from matplotlib.image import AxesImage

_WORST_ERROR = 0.5  # relative error at the end of its colour scale
_CELL = 2.6  # inches


def draw_depth(evaluation: Evaluation, path: Path) -> None:
    """Write a grid with a column per example; its rows are image, true depth, predicted depth,
    relative error.

    Without any true depth, image and prediction alone. All depths share one colour scale, set by
    the true depth where there is any; where the truth is unknown, it and the error are grey.
    """
    examples = evaluation.depth_examples
    with_truth = any(example.true is not None for example in examples)
    rows = (
        ["image", "true depth", "predicted depth", "relative error"]
        if with_truth
        else ["image", "predicted depth"]
    )
    height, width = examples[0].predicted.shape
    figure = new_figure(_CELL * len(examples) + 1.2, _CELL * height / width * len(rows) + 0.9)
    grid = figure.add_gridspec(
        len(rows), len(examples) + 1, width_ratios=[1.0] * len(examples) + [0.05]
    )
    limits = _depth_limits(examples)
    for column, example in enumerate(examples):
        axes = [_bare_axes(figure, grid, row, column) for row in range(len(rows))]
        axes[0].set_title(example.name, fontsize=9)
        if column == 0:
            for axis, label in zip(axes, rows, strict=True):
                axis.set_ylabel(label, fontsize=10)
        mappables = _draw_column(axes, example, limits, with_truth)
    depth_bar = figure.add_subplot(grid[1:3, -1])
    figure.colorbar(mappables[0], cax=depth_bar, label=f"depth [{examples[0].unit}]", extend="both")
    if with_truth:
        _error_bar(figure, grid, mappables[-1])
    figure.suptitle(_title(evaluation, with_truth), fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def _title(evaluation: Evaluation, with_truth: bool) -> str:
    figures = evaluation.figures
    source = f"{figures.sequence}, model {figures.model}: "
    if with_truth:
        abs_rel = figures.map.depth.depth_abs_rel
        return (
            f"{source}AbsRel {abs_rel:.3f} over all map frames, one median scale for the sequence"
        )
    if evaluation.depth_examples[0].unit == "m":
        return f"{source}no true depth; scale from the Sim(3) of the map poses"
    return f"{source}no true depth, and the map poses do not give the scale"


def _depth_limits(examples: tuple[DepthExample, ...]) -> tuple[float, float]:
    known = [example.true[example.true > 0] for example in examples if example.true is not None]
    values = np.concatenate(known) if known else np.empty(0)
    if len(values) == 0:
        values = np.concatenate([example.predicted.ravel() for example in examples])
    low, high = np.quantile(values, (0.01, 0.99))
    return float(low), float(max(high, low + 1e-6))


def _draw_column(
    axes: list[Axes], example: DepthExample, limits: tuple[float, float], with_truth: bool
) -> list[AxesImage]:
    """Draw one example; returns what the colour bars describe: depth and, with truth, error."""
    axes[0].imshow(example.image)
    colours: dict[str, Any] = {"cmap": "turbo", "vmin": limits[0], "vmax": limits[1]}
    if not with_truth:
        return [axes[1].imshow(example.predicted, interpolation="nearest", **colours)]
    true = example.true if example.true is not None else np.zeros_like(example.predicted)
    known = true > 0
    axes[1].imshow(np.ma.masked_where(~known, true), interpolation="nearest", **colours)
    depth = axes[2].imshow(example.predicted, interpolation="nearest", **colours)
    relative = np.ma.masked_where(~known, (example.predicted - true) / np.where(known, true, 1))
    error = axes[3].imshow(
        relative, cmap="RdBu", vmin=-_WORST_ERROR, vmax=_WORST_ERROR, interpolation="nearest"
    )
    return [depth, error]


def _error_bar(figure: Figure, grid: GridSpec, error: AxesImage) -> None:
    ticks = [-_WORST_ERROR, 0.0, _WORST_ERROR]
    bar = figure.colorbar(error, cax=figure.add_subplot(grid[3, -1]), ticks=ticks, extend="both")
    percent = f"{100 * _WORST_ERROR:.0f} %"
    bar.ax.set_yticklabels([f"{percent} too near", "0", f"{percent} too far"], fontsize=9)


def _bare_axes(figure: Figure, grid: GridSpec, row: int, column: int) -> Axes:
    axes = figure.add_subplot(grid[row, column])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("0.75")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
