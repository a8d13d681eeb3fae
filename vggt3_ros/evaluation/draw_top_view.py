"""What all pictures of a map from above have in common: its points, paths, viewing directions and
limits.

They are drawn in view axes (right, away, up), into which `plane_from_world` rotates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vggt3_ros.geometry.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_POINTS = 80_000
# quantiles of the points: a few far outliers would shrink all the rest to a dot
_SHOWN = (0.02, 0.98)
_MARGIN = 0.06


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def positions_in_view(view_from_world: Tensor, poses: Tensor) -> Floats:
    """Positions (N, 3) of poses (N, 4, 4) in view axes."""
    positions: Floats = (poses[:, :3, 3].double() @ view_from_world.T).numpy()
    return positions


def directions_in_view(view_from_world: Tensor, poses: Tensor) -> Floats:
    """Viewing directions (N, 3), unit vectors, of poses (N, 4, 4) in view axes."""
    directions: Floats = (poses[:, :3, 2].double() @ view_from_world.T).numpy()
    return directions


def limits_of(cameras: Floats, points: Floats) -> Floats:
    """Lower and upper end (2, 2) of both axes: all cameras (S, 2+), nearly all points (N, 2+)."""
    low = cameras[:, :2].min(0)
    high = cameras[:, :2].max(0)
    if len(points):
        inner, outer = np.quantile(points[:, :2], _SHOWN, axis=0)
        low = np.minimum(low, inner)
        high = np.maximum(high, outer)
    margin = max(_MARGIN * float((high - low).max()), 1e-6)
    return np.stack([low - margin, high + margin], axis=1)


def paint_points(
    axes: Axes, points: Floats, colors: Floats, limits: Floats, ceiling: float, size: float
) -> None:
    """Paint points (N, 3) of colors (N, 3), 0 to 1, that lie within the limits (2, 2) and below the
    ceiling.

    What is higher covers what is lower; of more than 80,000 points so many, drawn with a fixed
    seed. size: of a point, in points squared.
    """
    shown = within(points, limits) & (points[:, 2] <= ceiling)
    picks = np.flatnonzero(shown)
    if len(picks) > _MAX_POINTS:
        picks = np.random.default_rng(0).choice(picks, _MAX_POINTS, replace=False)
    picks = picks[np.argsort(points[picks, 2])]
    axes.scatter(
        points[picks, 0], points[picks, 1], s=size, c=colors[picks], linewidths=0, rasterized=True
    )


def within(points: Floats, limits: Floats) -> npt.NDArray[np.bool_]:
    """Which (N,) of the points (N, 2+) lie within the limits (2, 2) of both axes."""
    flat = points[:, :2]
    return np.asarray(((flat >= limits[:, 0]) & (flat <= limits[:, 1])).all(axis=1))


def set_limits(axes: Axes, limits: Floats) -> None:
    """Show what lies within the limits (2, 2), as long away as to the right."""
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    axes.set_aspect("equal")


def draw_path(axes: Axes, positions: Floats, color: str, label: str, **style: Any) -> None:
    """Draw positions (N, 3) as markers with a white edge, joined by a line. style: matplotlib's
    properties of lines.
    """
    usual: dict[str, Any] = {
        "linewidth": 1.3,
        "marker": "o",
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "zorder": 4,
    }
    axes.plot(*positions[:, :2].T, color=color, label=label, **(usual | style))


def draw_headings(
    axes: Axes,
    starts: Floats,
    directions: Floats,
    length: float,
    color: str,
    label: str | None = None,
) -> None:
    """Draw a line along the optical axis of each camera, shorter where it looks up or down.

    starts, directions: (N, 3) in view axes; length: in their unit.
    """
    from matplotlib.collections import LineCollection

    ends = starts + length * directions
    lines = np.stack([starts[:, :2], ends[:, :2]], axis=1)  # (N, 2, 2)
    axes.add_collection(
        LineCollection(list(lines), colors=color, linewidths=0.8, zorder=3, label=label)
    )


def save_with_legend(figure: Figure, path: Path) -> None:
    """Write a figure with its legend below it. matplotlib before 3.7 cannot place one outside the
    axes by itself.
    """
    figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=130, bbox_inches="tight")
