"""The blocks of figures of an evaluation: the map, localization by the network alone, and verified by landmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.evaluation.alignment import MappedFrames
from vggt3_ros.evaluation.baselines import mean_pose_baseline, nearest_image_baseline, thumbnails
from vggt3_ros.evaluation.challenges import challenge_figures
from vggt3_ros.evaluation.metrics import (
    absolute_trajectory_error,
    localization_summary,
    pair_errors,
    pose_errors,
)
from vggt3_ros.evaluation.sequence import Sequence, Split
from vggt3_ros.evaluation.verified import Attempt, verified_summary
from vggt3_ros.pipeline.localize import Localization
from vggt3_ros.scene.scene import Scene

_MIN_BASELINE = 0.01  # of the extent; directions of shorter baselines are mostly noise of the truth


def map_figures(sequence: Sequence, mapped: MappedFrames, extent: float) -> dict[str, Any]:
    """Errors of the network's poses of all map frames, each after the alignment that makes it least."""
    true = sequence.world_from_cam[list(mapped.indices)]
    ate = absolute_trajectory_error(mapped.scene_poses, true)
    rotation, direction = pair_errors(mapped.scene_poses, true, _MIN_BASELINE * extent)
    return {
        "frames": len(mapped.indices),
        "keyframes_with_landmarks": len(mapped.with_landmarks),
        "ate_m": ate,
        "ate_percent": 100 * ate / extent if extent > 0 else np.nan,
        "pair_rotation_deg": rotation,
        "pair_direction_deg": direction,
    }


def localization_figures(
    sequence: Sequence,
    split: Split,
    mapped: MappedFrames,
    localizations: Items[Localization],
    query_poses: Items[Tensor | None],
    attempts: Items[Attempt],
    extent: float,
) -> dict[str, Any]:
    """Errors of the network alone, of the baselines, and what became of every query.

    query_poses: the network's (4, 4) in the true world, None where it gave none. Errors of all are infinite where its
    map does not follow the truth.
    """
    true = sequence.world_from_cam[list(split.query)]
    map_poses = sequence.world_from_cam[list(mapped.indices)]
    map_thumbnails = thumbnails(sequence.read_image(i) for i in mapped.indices)
    query_thumbnails = thumbnails(sequence.read_image(i) for i in split.query)
    baselines = {
        "mean_pose": mean_pose_baseline(map_poses, len(true)),
        "nearest_image": nearest_image_baseline(map_poses, map_thumbnails, query_thumbnails),
    }
    comparable: Items[Tensor | None] = query_poses if mapped.network_problem is None else [None] * len(query_poses)
    position, rotation = pose_errors(comparable, true)
    reasons = Counter(each.reason for each, pose in zip(localizations, query_poses, strict=True) if pose is None)
    return {
        "localization": localization_summary(position, rotation, extent),
        "baselines": {
            name: localization_summary(*pose_errors(answers, true), extent) for name, answers in baselines.items()
        },
        "queries": {
            "total": len(true),
            "answered": len(true) - reasons.total(),
            "lost": reasons.total(),
            "reasons": dict(reasons),
            "median_seconds": float(np.median([each.seconds.get("total", np.nan) for each in localizations])),
            "each": [
                {
                    "frame": attempt.name,
                    "status": localization.status.name,
                    "confidence": localization.confidence,
                    "position_m": float(position[i]),
                    "rotation_deg": float(rotation[i]),
                    "verified": attempt.to_json(),
                }
                for i, (localization, attempt) in enumerate(zip(localizations, attempts, strict=True))
            ],
        },
    }


def verified_figures(
    sequence: Sequence,
    mapped: MappedFrames,
    scene: Scene,
    attempts: Items[Attempt],
    challenges: Mapping[str, Items[Attempt]] | None,
) -> dict[str, Any]:
    """The block `verified`: queries, the landmarks that they were verified with, and challenges if any were posed.

    Errors of keyframes are of those that carry landmarks, and infinite where the map does not follow the truth.
    """
    rows = list(mapped.with_landmarks)
    true = sequence.world_from_cam[[mapped.indices[row] for row in rows]]
    estimated: list[Tensor | None] = [None] * len(rows)
    if not mapped.collapsed:
        estimated = list(mapped.true_from_map.poses(mapped.map_poses[rows]))
    position, rotation = pose_errors(estimated, true)
    tensors = scene.landmarks
    return {
        **verified_summary(attempts),
        "chi_square_reason": _no_chi_square(mapped, scene),
        "map": {
            **scene.verification,
            "calibration": scene.calibration_entry,
            "landmarks": len(tensors["positions"]) if tensors else 0,
            "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
            "position_rms_m": float(np.sqrt(np.mean(position**2))) if rows else np.nan,
            "position_max_m": float(position.max()) if rows else np.nan,
            "rotation_median_deg": float(np.median(rotation)) if rows else np.nan,
        },
        **(challenge_figures(attempts, challenges) if challenges is not None else {}),
    }


def _no_chi_square(mapped: MappedFrames, scene: Scene) -> str | None:
    """Why errors cannot be compared with the covariances, None if they can."""
    if mapped.problem is not None:
        return "the map does not follow the truth"
    return None if scene.is_metric else f"the map has no metres: {scene.metric_source.removeprefix('none: ')}"
