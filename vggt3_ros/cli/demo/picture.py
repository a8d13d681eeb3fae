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
from vggt3_ros.evaluation.draw_trajectory import save_with_legend
from vggt3_ros.evaluation.top_view import plane_from_world

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    upright = (
        None
        if scene.up_source.startswith("none")
        else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    )
    view_from_map = plane_from_world(run.map_poses, upright)  # (3, 3): right, away, up
    mapped = _flat(view_from_map, [*run.map_poses @ run.cam_from_base])
    found = _flat(view_from_map, [run.poses[stamp] for stamp in sorted(run.poses)])
    driven = _flat(view_from_map, run.true_path())
    refused = _flat(
        view_from_map, [run.truth[stamp] for stamp in run.refusals if stamp in run.truth]
    )

    figure = Figure(figsize=(9.0, 8.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = (scene.points.points.double() @ view_from_map.T).numpy()
    width = draw_points(
        axes, points, scene.points.colors.numpy(), np.concatenate([mapped, found, driven])
    )
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 5}
    first = "first drive: images of the map"
    axes.plot(
        *mapped[:, :2].T, "o-", color=_MAPPED, linewidth=1.6, markersize=6, label=first, **edge
    )
    _draw_headings(axes, mapped, (run.map_poses[:, :3, 2] @ view_from_map.T).numpy(), 0.04 * width)
    # where nothing of the path is in the way
    before = mapped[0, :2] - mapped[min(1, len(mapped) - 1), :2]
    before = 22 * before / max(float(np.linalg.norm(before)), 1e-9)
    axes.annotate("start", tuple(mapped[0, :2]), xytext=tuple(before), va="center", **_LABEL)
    if len(driven):
        axes.plot(
            *driven[:, :2].T, color=_TRUE, linewidth=1.6, zorder=4, label="second drive: true path"
        )
    axes.plot(
        *found[:, :2].T, "o", color=_FOUND, markersize=5, label="second drive: poses found", **edge
    )
    if len(refused):
        axes.plot(
            *refused[:, :2].T,
            "X",
            color=_REFUSED,
            markersize=8,
            label="second drive: no pose given",
            **edge,
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


def _draw_headings(axes: Axes, starts: np.ndarray, directions: np.ndarray, length: float) -> None:
    """A line along each camera's optical axis, shorter where it looks up or down."""
    lines = np.stack([starts[:, :2], starts[:, :2] + length * directions[:, :2]])  # (2, S, 2)
    axes.plot(lines[..., 0], lines[..., 1], color=_MAPPED, linewidth=0.9, zorder=4)
    axes.plot([], [], color=_MAPPED, linewidth=0.9, label="viewing direction")


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


def _flat(view_from_map: Tensor, poses: list[Tensor]) -> np.ndarray:
    """Positions (N, 3) of poses in view axes: right, away, up."""
    if not poses:
        return np.empty((0, 3))
    positions: np.ndarray = (torch.stack(poses)[:, :3, 3] @ view_from_map.T).numpy()
    return positions
