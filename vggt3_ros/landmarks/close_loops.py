"""Odometry of a drive without the drift that its loops tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.pose_graph import solve_pose_graph
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.loops import Loops, drive_pairs, find_loops
from vggt3_ros.landmarks.pairs import verified_matches
from vggt3_ros.landmarks.retrieval import describe, train_vocabulary
from vggt3_ros.landmarks.tensors import pose_error
from vggt3_ros.progress import Progress


@dataclass(frozen=True, eq=False)
class Closed:
    """Poses (K, 4, 4) corrected by loops, and figures for people as plain data for JSON."""

    world_from_cam: Floats
    report: dict[str, Any]


def close_loops(
    features: Sequence[Features],
    world_from_cam: Floats,
    intrinsics: Floats,
    drift: Drift,
    progress: Progress | None = None,
) -> Closed:
    """Spread over the drive what its loops disagree with odometry about.

    world_from_cam (K, 4, 4): poses of keyframes by odometry, metres, in the order of the drive,
    which err by `drift`; intrinsics (K, 3, 3). The first pose stays. Without loops all do.
    """
    report = progress or (lambda fraction: None)
    descriptors = [one.descriptors for one in features]
    vocabulary = train_vocabulary(descriptors)
    described = np.stack([describe(each, vocabulary) for each in descriptors])
    pairs = drive_pairs(len(features))
    matches = verified_matches(features, intrinsics, pairs, lambda done: report(0.5 * done))
    loops = find_loops(
        features,
        described,
        matches,
        world_from_cam,
        intrinsics,
        drift,
        lambda done: report(0.5 + 0.5 * done),
    )
    return _closed(world_from_cam, loops, drift)


def _closed(world_from_cam: Floats, loops: Loops, drift: Drift) -> Closed:
    corrected = world_from_cam
    believed = np.zeros(0, dtype=bool)
    if len(loops.edges.first):
        solution = solve_pose_graph(world_from_cam, drift.chain(world_from_cam).joined(loops.edges))
        corrected = solution.world_from_cam
        believed = solution.believed[-len(loops.edges.first) :]
    moved = np.linalg.norm((corrected - world_from_cam)[:, :3, 3], axis=1)
    refused = {**loops.refused, "contradicted by the others": int((~believed).sum())}
    return Closed(
        corrected,
        {
            "drift": str(drift),
            "found": int(believed.sum()),
            "compared": loops.compared,
            "refused": refused,
            "moved_rms_m": float(np.sqrt((moved**2).mean())),
            "moved_max_m": float(moved.max(initial=0)),
            "pairs": [_pair(loops, number) for number in np.flatnonzero(believed).tolist()],
        },
    )


def _pair(loops: Loops, number: int) -> dict[str, Any]:
    """A loop as plain data: how the second keyframe lies in the first one's camera axes."""
    relative = pose_error(np.eye(4), loops.edges.first_from_second[number])
    return {
        "keyframes": [int(loops.edges.first[number]), int(loops.edges.second[number])],
        "position_m": relative[:3].tolist(),
        "rotation_rad": relative[3:].tolist(),
    }
