"""Blocks of figures of a sequence: its map, its queries by the network alone, and verified by
landmarks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Items

import numpy as np
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.evaluation.attempt import Attempt, verified_errors
from vggt3_ros.evaluation.baselines import mean_pose_baseline, nearest_image_baseline, thumbnails
from vggt3_ros.evaluation.challenge_figures import challenge_figures
from vggt3_ros.evaluation.figures import (
    Baselines,
    MapErrors,
    Queries,
    QueryFigures,
    VerifiedFigures,
    VerifiedMap,
)
from vggt3_ros.evaluation.map_alignment import MappedFrames
from vggt3_ros.evaluation.metrics import (
    LocalizationErrors,
    absolute_trajectory_error,
    localization_errors,
    pair_errors,
    pose_errors,
)
from vggt3_ros.pipeline.localization import Localization
from vggt3_ros.scene.scene import Scene

_MIN_BASELINE = 0.01  # of the extent; directions of shorter baselines are mostly noise of the truth


def map_errors(sequence: Sequence, mapped: MappedFrames, extent: float) -> MapErrors:
    """Of the network's poses of all map frames."""
    true = sequence.world_from_cam[list(mapped.indices)]
    ate = absolute_trajectory_error(mapped.scene_poses, true)
    rotation, direction = pair_errors(mapped.scene_poses, true, _MIN_BASELINE * extent)
    return MapErrors(
        frames=len(mapped.indices),
        keyframes_with_landmarks=len(mapped.with_landmarks),
        ate_m=ate,
        ate_percent=100 * ate / extent if extent > 0 else np.nan,
        pair_rotation_deg=rotation,
        pair_direction_deg=direction,
    )


def baseline_errors(
    sequence: Sequence, split: Split, mapped: MappedFrames, extent: float
) -> Baselines:
    """Of answers that need no network."""
    true = sequence.world_from_cam[list(split.query)]
    map_poses = sequence.world_from_cam[list(mapped.indices)]
    map_thumbnails = thumbnails(sequence.read_image(i) for i in mapped.indices)
    query_thumbnails = thumbnails(sequence.read_image(i) for i in split.query)

    def errors(answers: Items[Tensor]) -> LocalizationErrors:
        return localization_errors(*pose_errors(answers, true), extent)

    return Baselines(
        mean_pose=errors(mean_pose_baseline(map_poses, len(true))),
        nearest_image=errors(nearest_image_baseline(map_poses, map_thumbnails, query_thumbnails)),
    )


def network_errors(
    sequence: Sequence,
    split: Split,
    mapped: MappedFrames,
    localizations: Items[Localization],
    query_poses: Items[Tensor | None],
) -> tuple[np.ndarray, np.ndarray]:
    """Position (m) and rotation errors (deg), (Q,) each, of the network alone; infinite where its
    map does not follow the truth, or of poses tied to keyframes, where theirs do not. query_poses:
    its (4, 4) in the true world, None where it gave none.
    """
    comparable = []
    for each, pose in zip(localizations, query_poses, strict=True):
        is_tied = each.proposed_by == "local"
        problem = mapped.problem if is_tied else mapped.network_problem
        comparable.append(pose if problem is None else None)
    return pose_errors(comparable, sequence.world_from_cam[list(split.query)])


def query_figures(
    localizations: Items[Localization],
    query_poses: Items[Tensor | None],
    attempts: Items[Attempt],
    errors: tuple[np.ndarray, np.ndarray],
) -> Queries:
    """What became of every query; errors: those of the network alone."""
    reasons = Counter(
        each.reason for each, pose in zip(localizations, query_poses, strict=True) if pose is None
    )
    position, rotation = errors
    return Queries(
        total=len(query_poses),
        answered=len(query_poses) - reasons.total(),
        lost=reasons.total(),
        reasons=dict(reasons),
        median_seconds=float(
            np.median([each.seconds.get("total", np.nan) for each in localizations])
        ),
        each=tuple(
            QueryFigures(
                frame=attempt.name,
                status=localization.status.name,
                confidence=localization.confidence,
                position_m=float(position[i]),
                rotation_deg=float(rotation[i]),
                verified=attempt,
            )
            for i, (localization, attempt) in enumerate(zip(localizations, attempts, strict=True))
        ),
    )


def verified_figures(
    sequence: Sequence,
    mapped: MappedFrames,
    scene: Scene,
    attempts: Items[Attempt],
    challenges: Mapping[str, Items[Attempt]] | None,
) -> VerifiedFigures:
    """Of queries verified with the landmarks of a scene; challenges: the attempts of each kind,
    None if not posed.
    """
    return VerifiedFigures(
        errors=verified_errors(attempts),
        chi_square_reason=_no_chi_square(mapped, scene),
        map=_verified_map(sequence, mapped, scene),
        challenges=None if challenges is None else challenge_figures(attempts, challenges),
    )


def _verified_map(sequence: Sequence, mapped: MappedFrames, scene: Scene) -> VerifiedMap:
    """Errors are of the keyframes that carry landmarks, and infinite where the map does not follow
    the truth.
    """
    rows = list(mapped.with_landmarks)
    true = sequence.world_from_cam[[mapped.indices[row] for row in rows]]
    estimated: list[Tensor | None] = [None] * len(rows)
    if not mapped.collapsed:
        estimated = list(mapped.true_from_map.poses(mapped.map_poses[rows]))
    position, rotation = pose_errors(estimated, true)
    tensors = scene.landmarks
    return VerifiedMap(
        verified=scene.verdict.verified,
        reason=scene.verdict.reason,
        report={**scene.verification, "calibration": scene.calibration_entry},
        landmarks=len(tensors["positions"]) if tensors else 0,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        position_rms_m=float(np.sqrt(np.mean(position**2))) if rows else np.nan,
        position_max_m=float(position.max()) if rows else np.nan,
        rotation_median_deg=float(np.median(rotation)) if rows else np.nan,
    )


def _no_chi_square(mapped: MappedFrames, scene: Scene) -> str | None:
    """Why errors cannot be compared with the covariances, None if they can."""
    if mapped.problem is not None:
        return "the map does not follow the truth"
    return (
        None
        if scene.is_metric
        else f"the map has no metres: {scene.metric_source.removeprefix('none: ')}"
    )
