"""Frames tied to landmarks: poses and depths in a frame of their own, before anything says how
large it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.sim3 import spread_ratio
from vggt3_ros.landmarks.build import LandmarkMap, build_landmarks, match_keyframes
from vggt3_ros.landmarks.close_loops import close_loops
from vggt3_ros.landmarks.features import Features, extract
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.tensors import to_array, to_tensor
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.pipeline.depth_scale import DepthAnchors, anchor_depths
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.progress import Progress, StageProgress
from vggt3_ros.scene.verification import MapVerdict


@dataclass(frozen=True, eq=False)
class Tied:
    """S frames in the frame of their landmarks: that of the priors where these fix one, else with
    any scale and rotation.

    landmarks, and the scales that bring predicted depth into their unit; both None where images
    carry none that hold together. verdict on them, and report: its figures for people.
    focal_factor: what the focal lengths were multiplied by. prior_residual_m, prior_outliers and
    groups: see LandmarkMap.
    """

    landmarks: Landmarks | None
    anchors: DepthAnchors | None
    verdict: MapVerdict
    report: dict[str, Any] = field(default_factory=dict)
    focal_factor: float = 1.0
    prior_residual_m: float = 0.0
    prior_outliers: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    def depth(self, predicted: Tensor) -> Tensor:
        """Predicted depth (S, h, w) in the unit of the landmarks, each keyframe's by its own
        scale.
        """
        if self.anchors is None:
            return predicted
        return (self.anchors.scale[:, None, None] * predicted).to(predicted.dtype)


def tie(observed: Observed, settings: AnchorSettings, progress: StageProgress) -> Tied:
    """Find landmarks in the frames of a map.

    progress(stage, 0..1) may raise to cancel. Raises ImportError when `sfm` is asked for and
    pycolmap is missing.
    """
    if settings.landmarks is None:
        return Tied(None, None, MapVerdict(False, "no landmarks were asked for"))
    made = _make_landmarks(observed, settings.landmarks, settings, progress)
    anchors = None
    if made.landmarks is not None:
        anchors = anchor_depths(observed.prediction.depth, made.landmarks, observed.intrinsics)
    return Tied(
        landmarks=made.landmarks,
        anchors=anchors,
        verdict=MapVerdict(made.verified, made.reason, made.poses),
        report=made.report,
        focal_factor=made.focal,
        prior_residual_m=made.prior_residual_m,
        prior_outliers=made.prior_outliers,
        groups=made.groups,
    )


def _make_landmarks(
    observed: Observed,
    settings: LandmarkSettings,
    anchoring: AnchorSettings,
    progress: StageProgress,
) -> LandmarkMap:
    frames = observed.frames
    start, measured = _start_poses(observed, anchoring)
    sfm = anchoring.sfm and not measured.any()
    if sfm:  # all that can be had: nothing else holds such a map together
        settings = replace(
            settings, features=replace(settings.features, scale=1.0, count=2000), neighbours=50
        )
    if any(frame.intrinsics is None for frame in frames):
        settings = replace(settings, refine_focal=True)
    k = to_array(observed.source_intrinsics)
    features = []
    for done, frame in enumerate(frames):
        progress("features", 0.3 * done / len(frames))
        features.append(extract(frame.image, k[done], frame.distortion, settings.features))
    report: dict[str, Any] = {}
    if anchoring.drift is not None and measured.any():
        settings = replace(settings, hold_priors=False)
        start, report["loops"] = _without_drift(
            observed, features, anchoring.drift, lambda done: progress("loops", 0.3 + 0.1 * done)
        )
    matches = match_keyframes(
        features,
        to_array(start),
        k,
        settings,
        lambda fraction: progress("matches", 0.4 + 0.2 * fraction),
    )
    if sfm:
        from vggt3_ros.landmarks.sfm import incremental_poses

        found = incremental_poses(
            features, matches, k, progress=lambda done, of: progress("sfm", 0.6 + 0.2 * done / of)
        )
        report["sfm"] = found.report()
        start = _placed_by_images(start, found.world_from_cam)
        if found.doubts:
            reason = "; ".join(found.doubts)
            return LandmarkMap(None, False, reason, report, to_array(start), 1.0)
    made = build_landmarks(
        features,
        matches,
        to_array(start),
        k,
        measured,
        settings,
        lambda fraction: progress("adjustment", 0.8 + 0.2 * fraction),
    )
    return replace(made, report={**made.report, **report})


def _without_drift(
    observed: Observed, features: Sequence[Features], drift: Drift, progress: Progress
) -> tuple[Tensor, dict[str, Any]]:
    """Poses (S, 4, 4) to start from: priors that loops have corrected, and for the other frames the
    network's, bent to fit in; and the report on loops, whose keyframes are numbers of frames.
    """
    given = observed.priors
    rows = list(given)
    closed = close_loops(
        [features[row] for row in rows],
        to_array(torch.stack(list(given.values())).double()),
        to_array(observed.source_intrinsics)[rows],
        drift,
        progress,
    )
    for pair in closed.report["pairs"]:
        pair["keyframes"] = [rows[number] for number in pair["keyframes"]]
    corrected = dict(zip(rows, to_tensor(closed.world_from_cam), strict=True))
    return _completed(observed.scene_from_cam, corrected), closed.report


def _start_poses(
    observed: Observed, settings: AnchorSettings
) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Poses (S, 4, 4) to start from, and which of them are measured: priors where they fix a frame,
    else the network's.

    Frames without a prior among others that have one get the network's pose, bent to fit.
    """
    measured = np.zeros(len(observed.frames), dtype=bool)
    if settings.priors_problem(observed.priors) is not None:
        return observed.scene_from_cam, measured
    measured[list(observed.priors)] = True
    return _completed(observed.scene_from_cam, observed.priors), measured


def _placed_by_images(scene_from_cam: Tensor, placed: dict[int, Any]) -> Tensor:
    """Poses from structure from motion, rotated and scaled to lie about where the network saw them.

    Frames that were not placed follow the others as the network saw them.
    """
    if len(placed) < 2:
        return scene_from_cam
    known = list(placed)
    start = _completed(scene_from_cam, {i: to_tensor(pose) for i, pose in placed.items()})
    sfm_from_scene = Bending.fit(
        scene_from_cam[known], start[known], spread_ratio(scene_from_cam[known], start[known])
    )
    return sfm_from_scene.map_from_scene.inverse().poses(start)


def _completed(scene_from_cam: Tensor, known: Mapping[int, Tensor]) -> Tensor:
    """The known poses, and for the other frames the network's, bent to fit in."""
    if len(known) == len(scene_from_cam):
        return torch.stack([known[i] for i in range(len(scene_from_cam))])
    indices = list(known)
    targets = torch.stack(list(known.values()))
    ratio = spread_ratio(scene_from_cam[indices], targets)
    start = Bending.fit(scene_from_cam[indices], targets, ratio).map_from_cam(scene_from_cam)
    start[indices] = targets
    return start
