"""Drives whose odometry drifts: how far off it is, and the map, and which loops are false."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.metrics import absolute_trajectory_error
from vggt3_ros.evaluation.number_text import shown
from vggt3_ros.geometry.drift import travelled
from vggt3_ros.geometry.se3 import rotation_angle, rotation_from_axis_angle, se3, se3_inverse
from vggt3_ros.geometry.sim3 import Sim3, umeyama

_WRONG_M = 0.5  # of a loop
_WRONG_RAD = 0.2618  # 15 degrees


@dataclass(frozen=True)
class DriveFigures:
    """Of one drive; way_m: metres along its map frames."""

    way_m: float = field(metadata=figure("m"))
    odometry_ate_m: float = field(
        metadata=figure(
            "m",
            "rms position error of all map frames after the best Sim(3): of the odometry that they"
            " were given, and of the map; *_rigid_m: the same after the best rigid motion,"
            " which leaves errors of scale; loops_false: beyond 0.5 m or 15 degrees",
            named="drive",
        )
    )
    map_ate_m: float = field(metadata=figure("m"))
    odometry_rigid_m: float = field(metadata=figure("m"))
    map_rigid_m: float = field(metadata=figure("m"))
    loops: int = field(metadata=figure("count"))
    loops_false: int = field(metadata=figure("count"))


def drive_figures(
    true: Tensor, odometry: Items[Tensor | None], mapped: Tensor, report: Mapping[str, Any]
) -> DriveFigures:
    """Of the true poses of the map frames, their odometry and their poses in the map, (M, 4, 4)
    each, and the map's report.
    """
    given = torch.stack([pose for pose in odometry if pose is not None])
    pairs = report.get("loops", {}).get("pairs", [])
    return DriveFigures(
        way_m=float(travelled(true.numpy())[-1]),
        odometry_ate_m=absolute_trajectory_error(given, true),
        map_ate_m=absolute_trajectory_error(mapped, true),
        odometry_rigid_m=_rigid_error(given, true),
        map_rigid_m=_rigid_error(mapped, true),
        loops=len(pairs),
        loops_false=sum(_is_false(pair, true) for pair in pairs),
    )


def drive_text(figures: DriveFigures) -> str:
    """A line of the table."""
    return (
        f"  drive of {figures.way_m:.0f} m: ATE {shown(100 * figures.odometry_ate_m, 1)} cm of the"
        f" odometry, {shown(100 * figures.map_ate_m, 1)} cm of the map (as rigid"
        f" {shown(100 * figures.odometry_rigid_m, 1)} and {shown(100 * figures.map_rigid_m, 1)});"
        f" {figures.loops} loops, {figures.loops_false} false"
    )


def _rigid_error(estimated: Tensor, true: Tensor) -> float:
    """Rms position error after the best rigid motion; infinite where nothing determines it."""
    source = estimated[:, :3, 3].double()
    target = true[:, :3, 3].double()
    try:
        rotation = umeyama(source, target).rotation
    except InputError:
        return float("inf")
    motion = Sim3(1.0, rotation, target.mean(0) - rotation @ source.mean(0))
    return float((motion.points(source) - target).square().sum(-1).mean().sqrt())


def _is_false(pair: Mapping[str, Any], true: Tensor) -> bool:
    """Whether a loop of a report is not where the true poses (M, 4, 4) have it."""
    first, second = pair["keyframes"]
    relative = se3_inverse(true[first]) @ true[second]
    rotation = rotation_from_axis_angle(torch.tensor(pair["rotation_rad"], dtype=torch.float64))
    measured = se3(rotation, torch.tensor(pair["position_m"], dtype=torch.float64))
    off = float((relative - measured)[:3, 3].norm())
    turned = float(rotation_angle(relative[:3, :3].T @ rotation))
    return off > _WRONG_M or turned > _WRONG_RAD
