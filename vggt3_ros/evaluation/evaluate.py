"""Reconstructs a sequence's map frames, localizes its query frames one by one, and compares both with the truth."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.baselines import mean_pose_baseline, nearest_image_baseline, thumbnails
from vggt3_ros.evaluation.depth import DepthComparison, compare_depth
from vggt3_ros.evaluation.metrics import (
    Alignment,
    absolute_trajectory_error,
    align_map,
    localization_summary,
    pair_errors,
    pose_errors,
    trajectory_extent,
)
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.sequence import Sequence, Split
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localization, LocalizationStatus, Localizer
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.scene.scene import Scene

_MIN_BASELINE = 0.01  # of the extent; directions of shorter baselines are mostly noise of the truth
_MAPPING_SHARE = 0.7  # of the time; the rest goes into localizing

Progress = Callable[[str, float], None]


def evaluate(
    sequence: Sequence,
    network: Any,
    split: str | None = None,
    settings: ReconstructionSettings | None = None,
    *,
    priors: bool = False,
    max_map_frames: int | None = None,
    max_query_frames: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a network (a Vggt3) on a split of a sequence, by default its first one.

    Map frames are given without poses, so that the network alone is measured, and estimates become metres by the
    Sim(3) of the map poses. With `priors` the map frames carry their true poses, and it is the scene's own metric
    alignment that is measured. The limits keep evenly spaced frames of the split. progress(stage, 0..1) is called now
    and then; what it raises cancels.
    Raises InputError for an unknown split, unreadable images, or fewer than two usable map frames.
    """
    chosen = sequence.split(split).limited(max_map_frames, max_query_frames)
    extent = trajectory_extent(sequence.world_from_cam[[*chosen.map, *chosen.query]])
    _reset_cuda_peak(network)
    map_frames = _read(sequence, chosen, priors, progress)
    started = time.perf_counter()
    reconstruction = reconstruct(map_frames, network, settings, _scaled(progress, 0.0, _MAPPING_SHARE))
    seconds = time.perf_counter() - started
    scene = reconstruction.scene
    mapped = _align(sequence, chosen, scene)
    localizations = _localize(sequence, chosen, scene, network, _scaled(progress, _MAPPING_SHARE, 1.0))
    query_poses = tuple(_metric_pose(each, mapped.alignment) for each in localizations)
    peaks = _peak_memory(network)
    depth = _compare_depth(sequence, mapped, reconstruction, network)
    true_from_estimated = mapped.alignment.true_from_estimated
    figures = {
        "sequence": sequence.name,
        "split": split or next(iter(sequence.splits)),
        "model": network.model_id,
        "model_fingerprint": scene.model_fingerprint,
        "device": str(network.device),
        "ttt_steps": scene.ttt_steps,
        "input_size": list(scene.input_size),
        "priors": priors,
        "trajectory_extent_m": extent,
        "map": {
            **_map_errors(sequence, mapped, extent),
            "depth_abs_rel": depth.abs_rel,
            "depth_scale": depth.scale,
            "depth_frames": depth.frames,
            "seconds": seconds,
            "stages": dict(reconstruction.seconds),
            **peaks,
            "skipped": [{"frame": name, "reason": reason} for name, reason in reconstruction.skipped],
        },
        **_localization_figures(sequence, chosen, mapped, localizations, query_poses, extent),
        "alignment": {
            "source": mapped.source,
            "collapsed": mapped.alignment.collapsed,
            "true_from_estimated": true_from_estimated.to_dict(),
        },
        "notes": list(sequence.notes),
    }
    return Evaluation(
        sequence=sequence,
        split=chosen,
        map_indices=mapped.indices,
        map_poses=true_from_estimated.poses(mapped.scene_poses),
        query_poses=query_poses,
        points=scene.points.transformed(true_from_estimated),
        depth_examples=depth.examples,
        figures=figures,
    )


def _scaled(progress: Progress | None, begin: float, end: float) -> Progress | None:
    """A listener to one part of the work, whose 0 to 1 is `begin` to `end` of the whole."""
    return None if progress is None else lambda stage, share: progress(stage, begin + (end - begin) * share)


def _read(sequence: Sequence, split: Split, priors: bool, progress: Progress | None) -> list[Frame]:
    frames = []
    for index in split.map:
        if progress is not None:
            progress("read", 0.0)
        frames.append(sequence.frame(index, with_prior=priors))
    return frames


@dataclass(frozen=True, eq=False)
class _MappedFrames:
    """The map frames in use: their indices, poses (M, 4, 4) in scene units, and how they become metres."""

    indices: tuple[int, ...]
    scene_poses: Tensor
    alignment: Alignment
    source: str


def _align(sequence: Sequence, split: Split, scene: Scene) -> _MappedFrames:
    index_of_name = {sequence.names[i]: i for i in split.map}
    indices = tuple(index_of_name[name] for name in scene.keyframes.names)
    scene_poses = se3_inverse(scene.keyframes.cam_from_world)
    if scene.metric_from_scene is not None:
        return _MappedFrames(indices, scene_poses, Alignment(scene.metric_from_scene, collapsed=False), "pose priors")
    alignment = align_map(scene_poses, sequence.world_from_cam[list(indices)])
    return _MappedFrames(indices, scene_poses, alignment, "Sim(3) of the true map poses")


def _map_errors(sequence: Sequence, mapped: _MappedFrames, extent: float) -> dict[str, Any]:
    true = sequence.world_from_cam[list(mapped.indices)]
    ate = absolute_trajectory_error(mapped.scene_poses, true)
    rotation, direction = pair_errors(mapped.scene_poses, true, _MIN_BASELINE * extent)
    return {
        "frames": len(mapped.indices),
        "ate_m": ate,
        "ate_percent": 100 * ate / extent if extent > 0 else np.nan,
        "pair_rotation_deg": rotation,
        "pair_direction_deg": direction,
    }


def _compare_depth(
    sequence: Sequence, mapped: _MappedFrames, reconstruction: Reconstruction, network: Any
) -> DepthComparison:
    scale = None if mapped.alignment.collapsed else mapped.alignment.true_from_estimated.scale
    config = network.config
    predicted = reconstruction.prediction.depth
    return compare_depth(sequence, mapped.indices, predicted, config.image_size, config.patch_size, scale)


def _localize(
    sequence: Sequence, split: Split, scene: Scene, network: Any, progress: Progress | None
) -> list[Localization]:
    """One localization per query; all LOST where the scene has no memory: a softmax network's map is measured too."""
    if not scene.memory:
        reason = "the scene holds no memory: a softmax network keeps none"
        return [Localization(LocalizationStatus.LOST, reason, None, scene.is_metric, 0.0, None, None, {})] * len(
            split.query
        )
    localizer = Localizer(scene, network)
    localizations = []
    for done, index in enumerate(split.query):
        if progress is not None:
            progress("localize", done / len(split.query))
        localizations.append(localizer.localize(sequence.frame(index)))
    if progress is not None:
        progress("localize", 1.0)
    return localizations


def _metric_pose(localization: Localization, alignment: Alignment) -> Tensor | None:
    if localization.map_from_cam is None or localization.metric:
        return localization.map_from_cam
    return alignment.true_from_estimated.poses(localization.map_from_cam)


def _localization_figures(
    sequence: Sequence,
    split: Split,
    mapped: _MappedFrames,
    localizations: list[Localization],
    query_poses: tuple[Tensor | None, ...],
    extent: float,
) -> dict[str, Any]:
    true = sequence.world_from_cam[list(split.query)]
    map_poses = sequence.world_from_cam[list(mapped.indices)]
    map_thumbnails = thumbnails(sequence.read_image(i) for i in mapped.indices)
    query_thumbnails = thumbnails(sequence.read_image(i) for i in split.query)
    baselines = {
        "mean_pose": mean_pose_baseline(map_poses, len(true)),
        "nearest_image": nearest_image_baseline(map_poses, map_thumbnails, query_thumbnails),
    }
    position, rotation = pose_errors(query_poses, true)
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
                    "frame": sequence.names[index],
                    "status": each.status.name,
                    "confidence": each.confidence,
                    "position_m": float(position[i]),
                    "rotation_deg": float(rotation[i]),
                }
                for i, (index, each) in enumerate(zip(split.query, localizations, strict=True))
            ],
        },
    }


def _reset_cuda_peak(network: Any) -> None:
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(network.device)


def _peak_memory(network: Any) -> dict[str, int]:
    peaks = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if network.device.type == "cuda":
        peaks["peak_cuda_bytes"] = torch.cuda.max_memory_allocated(network.device)
    return peaks
