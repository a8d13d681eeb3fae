"""Picture of how seconds and memory of mapping grow with the number of frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.bench.network import Attention, Measured
from vggt3_ros.evaluation.draw_top_view import new_figure, save_with_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS: dict[Attention, str] = {
    "own": "#30638e",
    "ttt": "#00798c",
    "softmax": "#d1495b",
    "anchored": "#edae49",
}
_NAMES: dict[Attention, str] = {
    "own": "as the model has it",
    "ttt": "fast weights",
    "softmax": "softmax",
    "anchored": "anchors",
}


def draw_growth(
    rows: Sequence[Measured], growth: Mapping[Attention, float | None], path: Path
) -> None:
    """Write seconds, with the exponents of their growth, and peak memory over the frames to `path`,
    in the format of its suffix; all axes are logarithmic.
    """
    from matplotlib.ticker import LogFormatter, NullLocator

    figure = new_figure(9.0, 4.0)
    seconds, memory = figure.subplots(1, 2)
    for kind in _NAMES:
        of_kind = sorted((row for row in rows if row.attention == kind), key=lambda r: r.frames)
        if not of_kind:
            continue
        exponent = growth.get(kind)
        fitted = "" if exponent is None else f": seconds grow as frames$^{{{exponent:.2f}}}$"
        _draw(seconds, of_kind, lambda row: row.seconds, _NAMES[kind] + fitted)
        _draw(memory, of_kind, lambda row: row.peak_bytes / 1e6)
        _draw(memory, of_kind, _above_all, style="--")
    memory.plot([], [], color="0.4", linestyle="--", label="above what is kept of the frames")
    frames = sorted({row.frames for row in rows})
    for axes, label in ((seconds, "seconds"), (memory, "peak memory [MB]")):
        axes.set(xscale="log", yscale="log", xlabel="frames", ylabel=label)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(frames)
        axes.set_xticklabels([str(count) for count in frames])
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.grid(color="0.9", linewidth=0.6, which="both")
        axes.set_axisbelow(True)
    save_with_legend(figure, path)


def _above_all(row: Measured) -> float:
    return math.nan if row.of_frames is None else row.of_frames.peak_above_all / 1e6


def _draw(
    axes: Axes,
    rows: Sequence[Measured],
    value: Callable[[Measured], float],
    label: str = "",
    style: str = "-",
) -> None:
    axes.plot(
        [row.frames for row in rows],
        [value(row) for row in rows],
        color=_COLORS[rows[0].attention],
        linestyle=style,
        marker="o",
        markersize=4,
        label=label or None,
    )
