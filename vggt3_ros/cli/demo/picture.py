"""The picture of `vggt3 demo` from above: the map, the drive that made it, and the poses that were
found in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.cli.picture import draw_points
from vggt3_ros.evaluation.draw_top_view import (
    directions_in_view,
    draw_headings,
    draw_path,
    new_figure,
    positions_in_view,
    save_with_legend,
)
from vggt3_ros.evaluation.top_view import plane_from_world
from vggt3_ros.geometry.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vggt3_ros.evaluation.live_run import LiveFigures, LiveRun
    from vggt3_ros.scene.scene import Scene

_MAPPED = "#1d3557"
_TRUE = "#1a1a1a"
_FOUND = "#2a9d2a"
_REFUSED = "#d1495b"
_LABEL: dict[str, Any] = {
    "textcoords": "offset points", "ha": "center", "zorder": 6, "fontsize": 10,
    "bbox": {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1.5},
}  # fmt: skip
_BAR = 0.2  # of the picture's width at least, for the bar that shows the scale


def draw_demo(scene: Scene, run: LiveRun, figures: LiveFigures, path: Path) -> None:
    """Write the top view to `path`; `figures` are those of the report."""
    z_is_up = not scene.up_source.startswith("none")
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) if z_is_up else None
    view_from_map = plane_from_world(run.map_poses, up)  # (3, 3): right, away, up
    refused_at = [stamp for stamp in run.refusals if stamp in run.truth]
    mapped = positions_in_view(view_from_map, run.map_poses @ run.cam_from_base)
    found = _positions(view_from_map, [run.poses[stamp] for stamp in sorted(run.poses)])
    driven = _positions(view_from_map, run.true_path())
    refused = _positions(view_from_map, [run.truth[stamp] for stamp in refused_at])

    figure = new_figure(9.0, 8.0)
    axes = figure.add_subplot()
    points = (scene.points.points.double() @ view_from_map.T).numpy()
    cameras = np.concatenate([mapped, found, driven])
    width = draw_points(axes, points, scene.points.colors.numpy(), cameras)
    first = "first drive: images of the map"
    draw_path(axes, mapped, _MAPPED, first, linewidth=1.6, markersize=6, zorder=5)
    directions = directions_in_view(view_from_map, run.map_poses)
    draw_headings(axes, mapped, directions, 0.04 * width, _MAPPED, "viewing direction")
    _mark_start(axes, mapped)
    if len(driven):
        true_path = "second drive: true path"
        draw_path(axes, driven, _TRUE, true_path, linewidth=1.6, marker="")
    poses_found = "second drive: poses found"
    draw_path(axes, found, _FOUND, poses_found, linestyle="none", markersize=5, zorder=5)
    if len(refused):
        none_given = "second drive: no pose given"
        draw_path(
            axes,
            refused,
            _REFUSED,
            none_given,
            linestyle="none",
            marker="X",
            markersize=8,
            zorder=5,
        )
    _draw_scale(axes, width, "m" if scene.is_metric else "units of the map")
    axes.set_xticks([])
    axes.set_yticks([])
    figure.suptitle(_title(scene, figures), fontsize=11, x=0.02, ha="left")
    save_with_legend(figure, path)


def _title(scene: Scene, figures: LiveFigures) -> str:
    position = figures.position_error_m.median
    rotation = figures.rotation_error_deg.median
    errors = ""
    if position is not None:
        errors = (
            f"\nmedian error {100 * position:.1f} cm and {rotation:.2f} degrees, {figures.wrong}"
            " poses wrong"
        )
    return (
        f"A map of {len(scene.keyframes)} images, seen from above: {len(scene.points)}"
        f" points\n{figures.localized} of {figures.query_frames} images of the second drive were"
        f" localized in it{errors}"
    )


def _mark_start(axes: Axes, path: Floats) -> None:
    """Write "start" beside the first position of a path (S, 3), where nothing of it is in the
    way.
    """
    first = path[0, :2]
    second = path[min(1, len(path) - 1), :2]
    distance = max(float(np.linalg.norm(first - second)), 1e-9)
    offset = 22 * (first - second) / distance
    axes.annotate("start", tuple(first), xytext=tuple(offset), va="center", **_LABEL)


def _draw_scale(axes: Axes, width: float, unit: str) -> None:
    """A bar of a round length in the lower left corner."""
    least = _BAR * width
    power = 10.0 ** np.floor(np.log10(least))
    length = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    x = left + 0.03 * (right - left)
    y = low + 0.03 * (high - low)
    axes.plot([x, x + length], [y, y], color="black", linewidth=4, solid_capstyle="butt", zorder=6)
    axes.annotate(f"{length:g} {unit}", (x + length / 2, y), xytext=(0, 8), **_LABEL)


def _positions(view_from_map: Tensor, poses: list[Tensor]) -> Floats:
    """Positions (N, 3) of poses (4, 4) in view axes: right, away, up."""
    if not poses:
        return np.empty((0, 3))
    return positions_in_view(view_from_map, torch.stack(poses))
