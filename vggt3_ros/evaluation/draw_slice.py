"""Picture of a slice through a map's points at the height of the cameras, seen from above, beside
the truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.evaluation.clouds import CloudFigures
from vggt3_ros.evaluation.compared_clouds import NETWORK, SCENE
from vggt3_ros.evaluation.draw_top_view import (
    new_figure,
    positions_in_view,
    set_limits,
)
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.top_view import plane_from_world
from vggt3_ros.geometry.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HALF_HEIGHT = 10  # voxels above and below the middle of the slice
_MIN_FRACTION = 0.02  # of the true surface that a slice must hold to be worth drawing
_FAR = 0.2  # metres off at the end of the colour scale, for voxels of 2 cm
_USUAL_VOXEL = 0.02
_PANEL = 5.0  # inches of the longer side
_CAMERAS = "#00798c"


def draw_slice(evaluation: Evaluation, path: Path) -> None:
    """Write the slice of each cloud that was compared with the truth, and of the truth; points by
    how far they are off.

    The slice reaches ten voxels (20 cm in rooms) up and down from the mean height of the cameras.
    Where cameras look down on everything, and hardly any surface lies there, it is about the median
    height of the true surface.
    """
    clouds = evaluation.clouds.clouds
    if evaluation.clouds.truth is None:
        raise ValueError("there is no true surface to draw beside the points")
    sequence = evaluation.sequence
    view_from_world = plane_from_world(sequence.world_from_cam, sequence.up)
    cameras = positions_in_view(view_from_world, evaluation.map_poses)
    truth = (evaluation.clouds.truth @ view_from_world.T).numpy()
    voxel = clouds[SCENE].figures.voxel_m
    band, where = _band(truth[:, 2], cameras[:, 2], _HALF_HEIGHT * voxel)
    truth = truth[_inside(truth, band)]
    names = {NETWORK: "before", SCENE: "map"} if NETWORK in clouds else {SCENE: "map"}
    slices = {}
    for block in names:
        points = clouds[block].points @ view_from_world.numpy().T
        inside = _inside(points, band)
        slices[block] = points[inside], clouds[block].off[inside]
    limits = _limits([cameras, truth, *(points for points, _ in slices.values())])

    spans = limits[:, 1] - limits[:, 0]
    width, height = _PANEL * spans / spans.max()
    figure = new_figure((width + 0.5) * (len(names) + 1) + 1.2, height + 1.6)
    panels = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    far = _FAR * voxel / _USUAL_VOXEL
    for axes, (block, name) in zip(panels, names.items(), strict=False):
        axes.scatter(*truth[:, :2].T, s=1.0, c="0.85", linewidths=0, rasterized=True)
        shown = _draw_points(axes, *slices[block], far)
        _finish(axes, f"{name}: {_summary(clouds[block].figures)}", cameras, limits)
    panels[-1].scatter(*truth[:, :2].T, s=1.0, c="0.1", linewidths=0, rasterized=True)
    _finish(panels[-1], "truth", cameras, limits)
    figure.colorbar(shown, ax=list(panels), label="off the truth [cm]", extend="max", fraction=0.03)
    figure.suptitle(_title(evaluation, voxel, band, where), fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=130)


def _band(heights: Floats, cameras: Floats, half: float) -> tuple[tuple[float, float], str]:
    """Lowest and highest height of the slice, and what it is about."""
    middle = float(cameras.mean())
    where = "the cameras' mean height"
    if np.mean(np.abs(heights - middle) <= half) < _MIN_FRACTION:
        middle = float(np.median(heights))
        where = "the truth's median height"
    return (middle - half, middle + half), where


def _inside(points: Floats, band: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return (points[:, 2] >= band[0]) & (points[:, 2] <= band[1])


def _limits(clouds: list[Floats]) -> Floats:
    """Lower and upper end (2, 2) of both axes: nearly all points (N, 3) of each cloud."""
    ends = np.concatenate(
        [np.quantile(cloud[:, :2], (0.01, 0.99), axis=0) for cloud in clouds if len(cloud)]
    )
    low = ends.min(0)
    high = ends.max(0)
    margin = 0.08 * max(float((high - low).max()), 1e-3)
    return np.stack([low - margin, high + margin], axis=1)


def _draw_points(axes: Axes, points: Floats, off: Floats, far: float) -> Any:
    """Draw the points of a slice, the most wrong last; returns what the colour bar describes."""
    order = np.argsort(off)
    colours: dict[str, Any] = {"cmap": "turbo", "vmin": 0.0, "vmax": 100 * far}
    x, y, _ = points[order].T
    return axes.scatter(x, y, s=2.0, c=100 * off[order], linewidths=0, rasterized=True, **colours)


def _finish(axes: Axes, title: str, cameras: Floats, limits: Floats) -> None:
    axes.plot(*cameras[:, :2].T, color=_CAMERAS, linewidth=0.8, marker="o", markersize=2.5)
    axes.set_title(title, fontsize=9)
    set_limits(axes, limits)
    axes.tick_params(labelsize=8)


def _summary(figures: CloudFigures) -> str:
    near = figures.within_cm(5)
    return (
        f"median {figures.accuracy_cm.median:.1f} cm, at 5 cm precision {near.precision:.2f},"
        f" recall {near.recall:.2f}"
    )


def _title(evaluation: Evaluation, voxel: float, band: tuple[float, float], where: str) -> str:
    figures = evaluation.figures
    return (
        f"{figures.sequence}, split {figures.split}, model {figures.model}: what lies within "
        f"{50 * (band[1] - band[0]):.0f} cm of {where}, seen from above [m]\n"
        f"one point per {100 * voxel:.1f} cm voxel; grey: truth; line: cameras of the map"
    )
