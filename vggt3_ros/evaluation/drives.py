"""Loops alone: odometry of drives before and after their loops are closed, without any network."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np
import torch

from vggt3_ros.datasets.drives import FLOOR_M, next_floor
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.drive_figures import DriveFigures, drive_figures
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.landmarks.close_loops import close_loops
from vggt3_ros.landmarks.features import extract, whole_image
from vggt3_ros.progress import Progress


@dataclass(frozen=True)
class DriveRow:
    """A drive; refused: pairs of images that were compared and do not close a loop, by reason."""

    drive: str
    priors: str
    frames: int = field(metadata=figure("count"))
    figures: DriveFigures = field(metadata=figure(inline=True))
    refused: dict[str, int] = field(metadata=figure("count"))


def close_drive(
    sequence: Sequence, drift: Drift, seed: int = 0, progress: Progress | None = None
) -> DriveRow:
    """The map frames of a sequence with drifting odometry, and what their loops make of it; poses
    "of the map" are those. Odometry does not notice that it came to the next floor (see
    drives.next_floor): whatever ties that to the others is false.
    """
    indices = list(sequence.split().map)
    true = sequence.world_from_cam[indices]
    level = true.clone()
    level[[next_floor(sequence, index) for index in indices], 2, 3] -= FLOOR_M
    priors = Priors("drift", drift=drift)
    odometry = priors.poses(level, seed)
    features = []
    for done, index in enumerate(indices):
        if progress is not None:
            progress(0.5 * done / len(indices))
        features.append(extract(sequence.read_image(index), settings=whole_image()))
    given = torch.stack([pose for pose in odometry if pose is not None]).numpy()
    intrinsics = np.tile(sequence.intrinsics.numpy(), (len(indices), 1, 1))
    report = None if progress is None else (lambda fraction: progress(0.5 + 0.5 * fraction))
    closed = close_loops(features, given, intrinsics, drift, report)
    mapped = torch.from_numpy(closed.world_from_cam)
    figures = drive_figures(true, odometry, mapped, {"loops": closed.report})
    return DriveRow(sequence.name, str(priors), len(indices), figures, closed.report["refused"])


def markdown(rows: Items[DriveRow]) -> str:
    """A table."""
    lines = [
        "| drive | frames | m | ATE of odometry cm | of loops cm | as rigid cm | loops | false |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = row.figures
        lines.append(
            f"| {row.drive} | {row.frames} | {each.way_m:.0f} | {100 * each.odometry_ate_m:.1f} |"
            f" {100 * each.map_ate_m:.1f} | {100 * each.odometry_rigid_m:.1f},"
            f" {100 * each.map_rigid_m:.1f} | {each.loops} | {each.loops_false} |"
        )
    return "\n".join(lines)
