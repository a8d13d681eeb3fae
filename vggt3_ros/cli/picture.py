"""Picture of a scene from above: its coloured points and the keyframes with their viewing
directions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vggt3_ros.evaluation.top_view import plane_from_world
from vggt3_ros.scene.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_POINTS = 80_000
# quantiles of the points: a few far outliers would shrink all the rest to a dot
_SHOWN = (0.02, 0.98)
_MARGIN = 0.06
# what lies this fraction of the picture's width above all cameras, such as a ceiling, would hide
# the rest
_HEADROOM = 0.1


def draw_scene(scene: Scene, path: Path) -> None:
    """Write the top view to `path`, in the format of its suffix; in metres where the scene is
    metric.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    map_from_cam = scene.map_from_keyframes
    view_from_map = plane_from_world(map_from_cam, None)  # (3, 3): right, away, up
    points = (scene.points.points.double() @ view_from_map.T).numpy()
    positions = (map_from_cam[:, :3, 3] @ view_from_map.T).numpy()
    cameras = positions[:, :2]

    figure = Figure(figsize=(8.0, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = draw_points(axes, points, scene.points.colors.numpy(), positions)
    arrows = width * 0.05 * _headings(map_from_cam, view_from_map)
    axes.plot(cameras[:, 0], cameras[:, 1], color="#d1495b", linewidth=1.0, zorder=3)
    axes.quiver(
        cameras[:, 0], cameras[:, 1], arrows[:, 0], arrows[:, 1], color="#d1495b", width=0.003,
        angles="xy", scale_units="xy", scale=1.0, zorder=4,
    )  # fmt: skip
    axes.plot(
        cameras[0, 0],
        cameras[0, 1],
        "o",
        color="#d1495b",
        markeredgecolor="white",
        markersize=8,
        zorder=5,
    )
    unit = "m" if scene.is_metric else "scene units"
    axes.set(xlabel=f"right [{unit}]", ylabel=f"away [{unit}]")
    axes.set_title(
        f"{len(scene.keyframes)} keyframes, {len(scene.points)} points, model {scene.model_id}:"
        " seen from above",
        fontsize=10,
        loc="left",
    )
    figure.savefig(path, dpi=130, bbox_inches="tight")


def draw_points(axes: Axes, points: np.ndarray, colors: np.ndarray, positions: np.ndarray) -> float:
    """Paint points (N, 3), colors (N, 3) uint8, from above; the third axis is up. Returns the
    picture's width.

    All cameras, which are at `positions` (S, 3), and nearly all points are in the picture; what
    lies far above all cameras is left out.
    """
    low, high = _limits(points[:, :2], positions[:, :2])
    width = float((high - low).max())
    picks = _picks(points, (*low, -np.inf), (*high, positions[:, 2].max() + _HEADROOM * width))
    axes.scatter(points[picks, 0], points[picks, 1], s=2.5, c=colors[picks] / 255.0, linewidths=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_facecolor("0.97")
    return width


def _headings(map_from_cam: Tensor, view_from_map: Tensor) -> np.ndarray:
    """Viewing directions (S, 2) in the plane of the picture."""
    headings: np.ndarray = (map_from_cam[:, :3, 2] @ view_from_map.T).numpy()[:, :2]
    return headings


def _limits(points: np.ndarray, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner, (2,) each, of what is shown: all cameras and nearly all points."""
    low = cameras.min(0)
    high = cameras.max(0)
    if len(points):
        inner, outer = np.quantile(points, _SHOWN, axis=0)
        low = np.minimum(low, inner)
        high = np.maximum(high, outer)
    margin = max(_MARGIN * float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _picks(points: np.ndarray, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """Indices of the points (N, 3) to paint, of those in a box; lowest first, so that what is
    higher covers it.
    """
    inside = ((points >= low) & (points <= high)).all(axis=1)
    picks = np.flatnonzero(inside)
    if len(picks) > _MAX_POINTS:
        picks = np.random.default_rng(0).choice(picks, _MAX_POINTS, replace=False)
    return picks[np.argsort(points[picks, 2])]
