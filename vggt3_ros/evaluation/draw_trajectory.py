"""Picture of a map from above: true and estimated paths and queries over the reconstructed points,
axes in metres.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.attempt import VerifiedErrors
from vggt3_ros.evaluation.draw_top_view import (
    directions_in_view,
    draw_headings,
    draw_path,
    limits_of,
    new_figure,
    paint_points,
    positions_in_view,
    save_with_legend,
    set_limits,
    within,
)
from vggt3_ros.evaluation.figures import EvaluationFigures
from vggt3_ros.evaluation.metrics import LocalizationErrors
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.top_view import plane_from_world
from vggt3_ros.geometry.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRUE = "#1a1a1a"
_ESTIMATED = "#d1495b"
_QUERY = "#00798c"
_VERIFIED = "#2a9d2a"
_REFUSED = "#ffd166"
_SIDE = 7.5  # inches of the longer side of the plot
# points this many extents above the highest camera (ceilings) would hide everything
_HEADROOM = 0.1
_REACH = 2.0  # how many extents around the paths are shown at most
_NEAR = 0.1  # fraction of the points that must lie within reach, for the view to grow towards them


def draw_trajectory(evaluation: Evaluation, path: Path) -> None:
    """Write the top view of an evaluation as a PNG or PDF (by the suffix of `path`)."""
    sequence = evaluation.sequence
    view_from_world = plane_from_world(sequence.world_from_cam, sequence.up)
    true_map = sequence.world_from_cam[list(evaluation.map_indices)]

    limits = view_limits(evaluation, view_from_world)
    spans = limits[:, 1] - limits[:, 0]
    width, height = _SIDE * spans / spans.max()
    figure = new_figure(max(width, 6.5) + 0.8, max(height, 2.5) + 1.7)
    axes = figure.add_subplot()
    # estimates would lie at the mean of the true positions
    useless = evaluation.figures.alignment.collapsed
    inside = 1.0 if useless else _paint_cloud(axes, evaluation, view_from_world, limits)
    length = 0.05 * float(spans.max())
    _draw_cameras(axes, view_from_world, true_map, length, _TRUE, "o", "map, true")
    if not useless:
        estimated = evaluation.map_poses
        _draw_cameras(axes, view_from_world, estimated, length, _ESTIMATED, "s", "map, estimated")
    _draw_queries(axes, view_from_world, evaluation)

    set_limits(axes, limits)
    world_axes = torch.equal(view_from_world, torch.eye(3, dtype=view_from_world.dtype))
    axes.set_xlabel("x [m]" if world_axes else "right [m]")
    axes.set_ylabel("y [m]" if world_axes else "away [m]")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.suptitle(_title(evaluation, inside), fontsize=10, x=0.02, ha="left")
    save_with_legend(figure, path)


def _title(evaluation: Evaluation, inside: float) -> str:
    """`inside` is the fraction of the points that lie in the picture."""
    figures = evaluation.figures
    errors = figures.map.errors
    verified = figures.verified.errors
    collapsed = figures.alignment.collapsed
    useless = "; the estimated map does not follow the truth and is not shown" if collapsed else ""
    points = (
        ""
        if inside >= 0.5
        else f"; {100 * (1 - inside):.0f} % of the points lie outside this picture"
    )
    return (
        f"{figures.sequence}, split {figures.split}, model {figures.model}, seen from above\nmap:"
        f" {errors.frames} frames, ATE{_ate(figures)}{useless}\n{verified.queries} queries, median"
        f" errors: network{_errors(figures.localization)}; {verified.accepted}"
        f" verified{_errors(verified)}, {verified.wrong_accepted} of them wrong{points}"
    )


def _ate(figures: EvaluationFigures) -> str:
    errors = figures.map.errors
    if not np.isfinite(errors.ate_m):
        return " -"
    of_extent = f"{errors.ate_percent:.1f} % of the extent of {figures.trajectory_extent_m:.2f} m"
    return f" {100 * errors.ate_m:.1f} cm ({of_extent})"


def _errors(errors: LocalizationErrors | VerifiedErrors) -> str:
    position = errors.median_position_m
    rotation = errors.median_rotation_deg
    return f" {100 * position:.1f} cm, {rotation:.1f} deg" if np.isfinite(position) else " -"


def view_limits(evaluation: Evaluation, view_from_world: Tensor) -> Floats:
    """Lower and upper end (2, 2) of both axes: the paths, and what lies around them of the
    points.
    """
    sequence = evaluation.sequence
    true = sequence.world_from_cam[[*evaluation.map_indices, *evaluation.split.query]]
    paths = positions_in_view(view_from_world, torch.cat([true, evaluation.map_poses]))
    reach = _REACH * max(evaluation.figures.trajectory_extent_m, 1e-3)
    around = np.stack([paths[:, :2].min(0) - reach, paths[:, :2].max(0) + reach], axis=1)
    points = (evaluation.points.points.double() @ view_from_world.T).numpy()
    near = points[within(points, around)]
    return limits_of(paths, near if len(near) > _NEAR * len(points) else near[:0])


def _paint_cloud(
    axes: Axes, evaluation: Evaluation, view_from_world: Tensor, limits: Floats
) -> float:
    """Paint what lies within the limits and below the ceiling; returns the fraction of the points
    that lies within the limits.
    """
    cloud = evaluation.points
    points = (cloud.points.double() @ view_from_world.T).numpy()
    highest = positions_in_view(view_from_world, evaluation.map_poses)[:, 2].max()
    ceiling = highest + _HEADROOM * evaluation.figures.trajectory_extent_m
    inside = within(points, limits)
    size = 2.0 if int(inside.sum()) > 10_000 else 5.0
    pale = 0.35 + 0.65 * cloud.colors.numpy() / 255
    paint_points(axes, points, pale, limits, ceiling, size)
    return float(inside.mean()) if len(cloud) else 1.0


def _draw_cameras(
    axes: Axes,
    view_from_world: Tensor,
    poses: Tensor,
    length: float,
    color: str,
    marker: str,
    label: str,
) -> None:
    """Draw the path of poses (N, 4, 4), and their viewing directions as lines of a length."""
    positions = positions_in_view(view_from_world, poses)
    draw_path(axes, positions, color, label, marker=marker)
    directions = directions_in_view(view_from_world, poses)
    in_legend = "viewing direction" if color == _TRUE else None
    draw_headings(axes, positions, directions, length, color, in_legend)


def _draw_queries(axes: Axes, view_from_world: Tensor, evaluation: Evaluation) -> None:
    """True queries as rings, full where refused; the network's answers as crosses, verified ones as
    crosses too.

    Thin lines join estimates to the truth. Those of a map that does not follow the truth are left
    out.
    """
    true = evaluation.sequence.world_from_cam[list(evaluation.split.query)]
    truth = positions_in_view(view_from_world, true)[:, :2]
    refused = np.array([pose is None for pose in evaluation.verified_poses])
    _draw_rings(axes, truth[~refused], "none", "query, true")
    _draw_rings(axes, truth[refused], _REFUSED, "query, true, not verified")
    alignment = evaluation.figures.alignment
    if not alignment.network_reason:
        poses = evaluation.query_poses
        _draw_answers(axes, view_from_world, poses, truth, _QUERY, "x", "query, network")
    if not alignment.reason:
        poses = evaluation.verified_poses
        _draw_answers(axes, view_from_world, poses, truth, _VERIFIED, "+", "query, verified")


def _draw_rings(axes: Axes, positions: Floats, filling: str, label: str) -> None:
    if len(positions) == 0:
        return
    axes.plot(
        *positions.T,
        linestyle="none",
        marker="o",
        markersize=8,
        markeredgecolor=_TRUE,
        markeredgewidth=1.0,
        markerfacecolor=filling,
        label=label,
        zorder=5,
    )


def _draw_answers(
    axes: Axes,
    view_from_world: Tensor,
    poses: Items[Tensor | None],
    truth: Floats,
    color: str,
    marker: str,
    label: str,
) -> None:
    """Crosses at those poses that were found, each joined to its true position of `truth` (Q,
    2).
    """
    found = [pose for pose in poses if pose is not None]
    if not found:
        return
    positions = positions_in_view(view_from_world, torch.stack(found))[:, :2]
    axes.plot(
        *positions.T,
        linestyle="none",
        marker=marker,
        markersize=7,
        markeredgewidth=1.6,
        color=color,
        label=label,
        zorder=6,
    )
    rows = [row for row, pose in enumerate(poses) if pose is not None]
    for ends in zip(truth[rows], positions, strict=True):
        axes.plot(*np.stack(ends, axis=1), color=color, linewidth=0.8, zorder=4)
