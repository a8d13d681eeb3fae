"""Picture of a scene from above: its coloured points and the keyframes with their viewing
directions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vggt3_ros.evaluation.draw_top_view import (
    directions_in_view,
    limits_of,
    new_figure,
    paint_points,
    positions_in_view,
    set_limits,
)
from vggt3_ros.evaluation.top_view import plane_from_world
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.scene.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# what lies this fraction of the picture's width above all cameras, such as a ceiling, would hide
# the rest
_HEADROOM = 0.1
_CAMERAS = "#d1495b"


def draw_scene(scene: Scene, path: Path) -> None:
    """Write the top view to `path`, in the format of its suffix; in metres where the scene is
    metric.
    """
    map_from_cam = scene.map_from_keyframes
    view_from_map = plane_from_world(map_from_cam, None)  # (3, 3): right, away, up
    points = (scene.points.points.double() @ view_from_map.T).numpy()
    positions = positions_in_view(view_from_map, map_from_cam)

    figure = new_figure(8.0, 7.0)
    axes = figure.add_subplot()
    width = draw_points(axes, points, scene.points.colors.numpy(), positions)
    _draw_keyframes(axes, positions, 0.05 * width * directions_in_view(view_from_map, map_from_cam))
    unit = "m" if scene.is_metric else "scene units"
    axes.set(xlabel=f"right [{unit}]", ylabel=f"away [{unit}]")
    axes.set_title(
        f"{len(scene.keyframes)} keyframes, {len(scene.points)} points, model {scene.model_id}:"
        " seen from above",
        fontsize=10,
        loc="left",
    )
    figure.savefig(path, dpi=130, bbox_inches="tight")


def draw_points(axes: Axes, points: Floats, colors: np.ndarray, positions: Floats) -> float:
    """Paint points (N, 3), colors (N, 3) uint8, from above; the third axis is up. Returns the
    picture's width.

    All cameras, which are at `positions` (S, 3), and nearly all points are in the picture; what
    lies far above all cameras is left out.
    """
    limits = limits_of(positions, points)
    width = float((limits[:, 1] - limits[:, 0]).max())
    ceiling = float(positions[:, 2].max()) + _HEADROOM * width
    paint_points(axes, points, colors / 255.0, limits, ceiling, size=2.5)
    set_limits(axes, limits)
    axes.set_facecolor("0.97")
    return width


def _draw_keyframes(axes: Axes, positions: Floats, arrows: Floats) -> None:
    """Draw the path of positions (S, 3) with an arrow (S, 3) at each, and a dot where it begins."""
    x, y, _ = positions.T
    axes.plot(x, y, color=_CAMERAS, linewidth=1.0, zorder=3)
    axes.quiver(
        x,
        y,
        arrows[:, 0],
        arrows[:, 1],
        color=_CAMERAS,
        width=0.003,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        zorder=4,
    )
    start = positions[0]
    axes.plot(
        start[0],
        start[1],
        "o",
        color=_CAMERAS,
        markeredgecolor="white",
        markersize=8,
        zorder=5,
    )
