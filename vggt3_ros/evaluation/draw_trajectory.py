"""Picture of a map from above: true and estimated paths and queries over the reconstructed points,
axes in metres.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.attempt import VerifiedErrors
from vggt3_ros.evaluation.figures import EvaluationFigures
from vggt3_ros.evaluation.metrics import LocalizationErrors
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.top_view import plane_from_world

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRUE = "#1a1a1a"
_ESTIMATED = "#d1495b"
_QUERY = "#00798c"
_VERIFIED = "#2a9d2a"
_REFUSED = "#ffd166"
_SIDE = 7.5  # inches of the longer side of the plot
_MAX_POINTS = 60_000
# points this many extents above the highest camera (ceilings) would hide everything
_HEADROOM = 0.1
_REACH = 2.0  # how many extents around the paths are shown at most
_NEAR = 0.1  # share of the points that must lie within reach, for the view to grow towards them


def draw_trajectory(evaluation: Evaluation, path: Path) -> None:
    """Write the top view of an evaluation as a PNG or PDF (by the suffix of `path`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sequence = evaluation.sequence
    split = evaluation.split
    view_from_world = plane_from_world(sequence.world_from_cam, sequence.up)
    true_map = sequence.world_from_cam[list(evaluation.map_indices)]
    true_query = sequence.world_from_cam[list(split.query)]

    limits = view_limits(evaluation, view_from_world)
    spans = limits[:, 1] - limits[:, 0]
    width, height = _SIDE * spans / spans.max()
    figure = Figure(figsize=(max(width, 6.5) + 0.8, max(height, 2.5) + 1.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # estimates would lie at the mean of the true positions
    useless = evaluation.figures.alignment.collapsed
    inside = 1.0 if useless else _draw_points(axes, evaluation, view_from_world, limits)
    arrow = 0.05 * float(spans.max())
    _draw_path(axes, view_from_world, true_map, _TRUE, "o", "map, true")
    _draw_headings(axes, view_from_world, true_map, _TRUE, "viewing direction", arrow)
    if not useless:
        _draw_path(axes, view_from_world, evaluation.map_poses, _ESTIMATED, "s", "map, estimated")
        _draw_headings(axes, view_from_world, evaluation.map_poses, _ESTIMATED, None, arrow)
    _draw_queries(axes, view_from_world, true_query, evaluation)

    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    axes.set_aspect("equal")
    world_axes = torch.equal(view_from_world, torch.eye(3, dtype=view_from_world.dtype))
    axes.set_xlabel("x [m]" if world_axes else "right [m]")
    axes.set_ylabel("y [m]" if world_axes else "away [m]")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.suptitle(_title(evaluation, inside), fontsize=10, x=0.02, ha="left")
    save_with_legend(figure, path)


def save_with_legend(figure: Figure, path: Path) -> None:
    """Write a figure with its legend below it. matplotlib before 3.7 cannot place one outside the
    axes by itself.
    """
    figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=130, bbox_inches="tight")


def _title(evaluation: Evaluation, inside: float) -> str:
    """`inside` is the share of the points that lie in the picture."""
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
    share = f"{errors.ate_percent:.1f} % of the extent of {figures.trajectory_extent_m:.2f} m"
    return f" {100 * errors.ate_m:.1f} cm ({share})"


def _errors(errors: LocalizationErrors | VerifiedErrors) -> str:
    position = errors.median_position_m
    rotation = errors.median_rotation_deg
    return f" {100 * position:.1f} cm, {rotation:.1f} deg" if np.isfinite(position) else " -"


def view_limits(evaluation: Evaluation, view_from_world: Tensor) -> np.ndarray:
    """Lower and upper end (2, 2) of both axes: the paths, and what lies around them of the
    points.
    """
    sequence = evaluation.sequence
    true = sequence.world_from_cam[[*evaluation.map_indices, *evaluation.split.query]]
    paths = _flat(view_from_world, torch.cat([true, evaluation.map_poses]))[:, :2]
    low = paths.min(0)
    high = paths.max(0)
    reach = _REACH * max(evaluation.figures.trajectory_extent_m, 1e-3)
    points = (evaluation.points.points.double() @ view_from_world.T)[:, :2].numpy()
    near = points[((points >= low - reach) & (points <= high + reach)).all(1)]
    if len(near) > _NEAR * len(points):
        inner, outer = np.quantile(near, (0.02, 0.98), axis=0)
        low = np.minimum(low, inner)
        high = np.maximum(high, outer)
    margin = 0.06 * max(float((high - low).max()), 1e-3)
    return np.stack([low - margin, high + margin], axis=1)


def _draw_points(
    axes: Axes, evaluation: Evaluation, view_from_world: Tensor, limits: np.ndarray
) -> float:
    """Draw what lies within the limits and below the ceiling; returns the share of points within
    the limits.
    """
    cloud = evaluation.points
    points = (cloud.points.double() @ view_from_world.T).numpy()
    cameras = _flat(view_from_world, evaluation.map_poses)[:, 2]
    ceiling = cameras.max() + _HEADROOM * evaluation.figures.trajectory_extent_m
    inside = np.all((points[:, :2] >= limits[:, 0]) & (points[:, :2] <= limits[:, 1]), axis=1)
    picks = np.flatnonzero(inside & (points[:, 2] <= ceiling))
    if len(picks) > _MAX_POINTS:
        picks = np.random.default_rng(0).choice(picks, _MAX_POINTS, replace=False)
    picks = picks[np.argsort(points[picks, 2])]  # what is higher is painted later
    colors = cloud.colors.numpy()[picks] / 255
    size = 2.0 if len(picks) > 10_000 else 5.0
    axes.scatter(
        points[picks, 0],
        points[picks, 1],
        s=size,
        c=0.35 + 0.65 * colors,
        linewidths=0,
        rasterized=True,
    )
    return float(inside.mean()) if len(cloud) else 1.0


def _draw_path(
    axes: Axes, view_from_world: Tensor, poses: Tensor, color: str, marker: str, label: str
) -> None:
    style: dict[str, Any] = {
        "linewidth": 1.3,
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }
    flat = _flat(view_from_world, poses)[:, :2]
    axes.plot(*flat.T, color=color, marker=marker, label=label, zorder=4, **style)


def _draw_headings(
    axes: Axes, view_from_world: Tensor, poses: Tensor, color: str, label: str | None, length: float
) -> None:
    """A line along each camera's optical axis, shorter where it looks up or down."""
    starts = _flat(view_from_world, poses)[:, :2]
    directions = (poses[:, :3, 2] @ view_from_world.T)[:, :2].numpy()
    for start, end in zip(starts, starts + length * directions, strict=True):
        axes.plot(
            *np.stack([start, end], axis=1), color=color, linewidth=0.8, zorder=3, label=label
        )
        label = None  # one entry in the legend


def _draw_queries(
    axes: Axes, view_from_world: Tensor, true: Tensor, evaluation: Evaluation
) -> None:
    """True queries as rings, full where refused; the network's answers as crosses, verified ones as
    crosses too.

    Thin lines join estimates to the truth. Those of a map that does not follow the truth are left
    out.
    """
    truth = _flat(view_from_world, true)[:, :2]
    refused = np.array([pose is None for pose in evaluation.verified_poses])
    ring: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 8,
        "markeredgecolor": _TRUE,
        "zorder": 5,
    }
    for chosen, filling, label in (
        (~refused, "none", "query, true"),
        (refused, _REFUSED, "query, true, not verified"),
    ):
        if chosen.any():
            axes.plot(
                *truth[chosen].T, markerfacecolor=filling, markeredgewidth=1.0, label=label, **ring
            )
    alignment = evaluation.figures.alignment
    for poses, color, marker, label, useless in (
        (evaluation.query_poses, _QUERY, "x", "query, network", alignment.network_reason),
        (evaluation.verified_poses, _VERIFIED, "+", "query, verified", alignment.reason),
    ):
        if useless:
            continue
        rows = [row for row, pose in enumerate(poses) if pose is not None]
        if not rows:
            continue
        flat = _flat(view_from_world, torch.stack([pose for pose in poses if pose is not None]))[
            :, :2
        ]
        style: dict[str, Any] = {
            "marker": marker,
            "markersize": 7,
            "markeredgewidth": 1.6,
            "linestyle": "none",
        }
        axes.plot(*flat.T, color=color, label=label, zorder=6, **style)
        for ends in zip(truth[rows], flat, strict=True):
            axes.plot(*np.stack(ends, axis=1), color=color, linewidth=0.8, zorder=4)


def _flat(view_from_world: Tensor, poses: Tensor) -> np.ndarray:
    """Positions (N, 3) of poses (N, 4, 4) in view axes: right, away, up."""
    return (poses[:, :3, 3] @ view_from_world.T).numpy()
