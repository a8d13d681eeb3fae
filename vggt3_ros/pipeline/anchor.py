"""The map frame: poses and depths tied to landmarks where images carry some; metres and Z up from what tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3, spread_ratio
from vggt3_ros.landmarks.build import LandmarkMap, build_landmarks, match_keyframes
from vggt3_ros.landmarks.features import extract
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.model.network import Progress
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.agreement import Bending
from vggt3_ros.pipeline.align import POSE_PRIORS, AlignmentSettings, align_with_priors, priors_problem
from vggt3_ros.pipeline.cameras import predicted_cameras
from vggt3_ros.pipeline.depth_anchors import anchor_depths, anchored
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.gravity import upright
from vggt3_ros.pipeline.metric import ScaleEstimate, first_found, scale_from_depth, scale_from_height
from vggt3_ros.pipeline.preprocess import PreparedFrames

# What users call the values of LandmarkSettings.hold_priors.
_PRIOR_POSES = {"auto": None, "hold": True, "adjust": False}
_STRIDE = 4  # pixels between the points that the floor is sought among


def landmark_settings(prior_poses: str) -> LandmarkSettings:
    """Landmarks for which given poses are held ("hold"), adjusted ("adjust"), or what predicts them better ("auto")."""
    return LandmarkSettings(hold_priors=_PRIOR_POSES[prior_poses])


@dataclass(frozen=True)
class AnchorSettings:
    """What ties a map to the world.

    landmarks: how they are made, None for none. sfm: poses of frames without priors come from the images alone
    (incremental mapping by pycolmap) and not from the network. camera_height_m: of the camera above the floor, if
    known. priors_are_metric: prior poses are in metres with Z up; otherwise they give the map its shape alone.
    """

    landmarks: LandmarkSettings | None = field(default_factory=LandmarkSettings)
    sfm: bool = False
    camera_height_m: float | None = None
    priors_are_metric: bool = True
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)

    def __post_init__(self) -> None:
        if self.camera_height_m is not None and not self.camera_height_m > 0:
            raise InputError(f"camera_height_m is {self.camera_height_m}; give metres above 0, or None")
        if self.landmarks is None and (self.sfm or not self.priors_are_metric):
            raise InputError("poses without a scale, of sfm or given ones, need landmarks; do not leave them out")

    def priors_problem(self, frames: Sequence[Frame]) -> str | None:
        """Why the frames' prior poses do not fix a frame, None when they do."""
        priors = {i: f.prior_world_from_cam for i, f in enumerate(frames) if f.prior_world_from_cam is not None}
        settings = self.alignment if self.priors_are_metric else replace(self.alignment, min_extent_m=0.0)
        return priors_problem(priors, settings)


@dataclass(frozen=True, eq=False)
class Anchoring:
    """The map frame of S keyframes: see Scene for the fields that it has too.

    prediction: as the map sees it, in scene units: cameras as adjusted and depths as scaled to the landmarks.
    prior_outliers: indices of frames whose prior pose is contradicted.
    """

    map_from_scene: Sim3
    is_metric: bool
    metric_source: str
    metric_residual_m: float | None
    up_source: str
    landmarks: Landmarks | None
    verification: dict[str, Any]
    prediction: Prediction
    prior_outliers: tuple[int, ...]


def anchor(
    frames: Sequence[Frame],
    prepared: PreparedFrames,
    prediction: Prediction,
    settings: AnchorSettings,
    progress: Progress,
) -> Anchoring:
    """Find the map frame of S frames, given as prepared for the network and what it predicted of them.

    progress(stage, 0..1) may raise to cancel. Raises ImportError when `sfm` is asked for and pycolmap is missing.
    """
    scene_from_cam = se3_inverse(predicted_cameras(prediction)[0])
    if settings.landmarks is None:
        why = {"verified": False, "reason": "no landmarks were asked for"}
        return _without_landmarks(frames, prepared, prediction, scene_from_cam, settings, why)
    intrinsics = source_intrinsics(frames, prepared, prediction)
    made = _make_landmarks(frames, scene_from_cam, intrinsics, settings.landmarks, settings, progress)
    sizes_wh = [[width, height] for height, width in (frame.size_hw for frame in frames)]
    verification = {**made.report, "image_sizes_wh": sizes_wh}
    if made.landmarks is None:
        return _without_landmarks(frames, prepared, prediction, scene_from_cam, settings, verification)
    return _with_landmarks(frames, prepared, prediction, scene_from_cam, settings, made.landmarks, verification)


def source_intrinsics(frames: Sequence[Frame], prepared: PreparedFrames, prediction: Prediction) -> Tensor:
    """Intrinsics (S, 3, 3) in pixels of the undistorted whole images: known ones, or the median of the predicted.

    One camera takes all frames of a map, and its focal length is refined afterwards.
    """
    if prepared.intrinsics is not None:
        return torch.stack([frame.intrinsics for frame in frames if frame.intrinsics is not None])
    predicted: Tensor = torch.linalg.solve(prepared.pixels_from_source, predicted_cameras(prediction)[1])
    return predicted.median(dim=0).values.expand(len(frames), 3, 3).clone()


def _make_landmarks(
    frames: Sequence[Frame],
    scene_from_cam: Tensor,
    intrinsics: Tensor,
    settings: LandmarkSettings,
    anchoring: AnchorSettings,
    progress: Progress,
) -> LandmarkMap:
    start, measured = _start_poses(frames, scene_from_cam, anchoring)
    sfm = anchoring.sfm and not measured.any()
    if sfm:  # all that can be had: nothing else holds such a map together
        settings = replace(settings, features=replace(settings.features, scale=1.0, count=2000), neighbours=50)
    if any(frame.intrinsics is None for frame in frames):
        settings = replace(settings, refine_focal=True)
    features = []
    for done, frame in enumerate(frames):
        progress("features", 0.3 * done / len(frames))
        features.append(extract(frame.image, intrinsics[done].numpy(), frame.distortion, settings.features))
    k = intrinsics.numpy()
    matches = match_keyframes(
        features, start.numpy(), k, settings, lambda share: progress("matches", 0.3 + 0.3 * share)
    )
    report: dict[str, Any] = {}
    if sfm:
        from vggt3_ros.landmarks.sfm import incremental_poses

        found = incremental_poses(
            features, matches, k, progress=lambda done, of: progress("sfm", 0.6 + 0.2 * done / of)
        )
        report["sfm"] = found.report()
        start = _placed_by_images(start, found.world_from_cam)
        if found.doubts:
            reason = "; ".join(found.doubts)
            return LandmarkMap(None, False, reason, {"verified": False, "reason": reason, **report}, start.numpy(), 1.0)
    made = build_landmarks(
        features, matches, start.numpy(), k, measured, settings, lambda share: progress("adjustment", 0.8 + 0.2 * share)
    )
    return replace(made, report={**made.report, **report})


def _start_poses(
    frames: Sequence[Frame], scene_from_cam: Tensor, settings: AnchorSettings
) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Poses (S, 4, 4) to start from, and which of them are measured: priors where they fix a frame, else the network's.

    Frames without a prior among others that have one get the network's pose, bent to fit.
    """
    measured = np.zeros(len(frames), dtype=bool)
    if settings.priors_problem(frames) is not None:
        return scene_from_cam, measured
    priors = {i: f.prior_world_from_cam for i, f in enumerate(frames) if f.prior_world_from_cam is not None}
    measured[list(priors)] = True
    return _completed(scene_from_cam, priors), measured


def _placed_by_images(scene_from_cam: Tensor, placed: dict[int, Any]) -> Tensor:
    """Poses from structure from motion, turned and scaled to lie about where the network saw them.

    Frames that were not placed follow the others as the network saw them.
    """
    if len(placed) < 2:
        return scene_from_cam
    known = list(placed)
    start = _completed(scene_from_cam, {i: torch.from_numpy(pose) for i, pose in placed.items()})
    sfm_from_scene = Bending.fit(scene_from_cam[known], start[known], spread_ratio(scene_from_cam[known], start[known]))
    return sfm_from_scene.map_from_scene.inverse().poses(start)


def _completed(scene_from_cam: Tensor, known: dict[int, Tensor]) -> Tensor:
    """The known poses, and for the other frames the network's, bent to fit in."""
    if len(known) == len(scene_from_cam):
        return torch.stack([known[i] for i in range(len(scene_from_cam))])
    indices, targets = list(known), torch.stack(list(known.values()))
    ratio = spread_ratio(scene_from_cam[indices], targets)
    start = Bending.fit(scene_from_cam[indices], targets, ratio).map_from_cam(scene_from_cam)
    start[indices] = targets
    return start


def _with_landmarks(
    frames: Sequence[Frame],
    prepared: PreparedFrames,
    prediction: Prediction,
    scene_from_cam: Tensor,
    settings: AnchorSettings,
    landmarks: Landmarks,
    verification: dict[str, Any],
) -> Anchoring:
    """The landmarks' frame is the map's: metric where priors fixed it, otherwise scaled and turned as can be told."""
    intrinsics = predicted_cameras(prediction)[1] if prepared.intrinsics is None else prepared.intrinsics
    problem = settings.priors_problem(frames)
    if problem is None and not settings.priors_are_metric:
        problem = "the given poses have no scale"
    anchors = anchor_depths(prediction.depth, landmarks, intrinsics)
    if problem is None:
        estimate, up_source = ScaleEstimate(1.0, POSE_PRIORS, ""), POSE_PRIORS
        residual = verification["prior_residual_m"]
        outliers = tuple(int(i) for i in verification["prior_outliers"])
    else:
        adjusted = torch.from_numpy(landmarks.world_from_cam)
        depth = anchors.scale[:, None, None] * prediction.depth
        estimate, map_from_landmarks, up_source = _scaled_and_upright(
            adjusted, torch.from_numpy(landmarks.positions), depth, prepared, prediction, settings, problem
        )
        landmarks = landmarks.transformed(map_from_landmarks)
        anchors = replace(
            anchors,
            scale=anchors.scale * map_from_landmarks.scale,
            scene_scale=anchors.scene_scale * map_from_landmarks.scale,
        )
        residual, outliers = None, ()
    adjusted = torch.from_numpy(landmarks.world_from_cam)
    bending = Bending.fit(scene_from_cam, adjusted, anchors.scene_scale)
    agreement = {
        **bending.report(),
        "depth_scale": anchors.scene_scale,
        "depth_error_before": anchors.error_before,
        "depth_error_after": anchors.error_after,
    }
    return Anchoring(
        map_from_scene=bending.map_from_scene,
        is_metric=estimate.scale is not None,
        metric_source=estimate.source if estimate.scale is not None else f"none: {estimate.reason}",
        metric_residual_m=residual,
        up_source=up_source,
        landmarks=landmarks,
        verification={**verification, "agreement": agreement},
        prediction=anchored(prediction, anchors.scale, adjusted, bending.map_from_scene, intrinsics),
        prior_outliers=outliers,
    )


def _without_landmarks(
    frames: Sequence[Frame],
    prepared: PreparedFrames,
    prediction: Prediction,
    scene_from_cam: Tensor,
    settings: AnchorSettings,
    verification: dict[str, Any],
) -> Anchoring:
    """The network alone: its poses against the priors, or its frame scaled and turned as it can be told."""
    alignment = align_with_priors(scene_from_cam, frames if settings.priors_are_metric else [], settings.alignment)
    if alignment.metric_from_scene is not None:
        map_from_scene, metric, source, up = alignment.metric_from_scene, True, alignment.source, POSE_PRIORS
    else:
        cloud = prediction.pointmap_from_depth[:, ::_STRIDE, ::_STRIDE].reshape(-1, 3)
        why = alignment.source.removeprefix("none: ")
        estimate, map_from_scene, up = _scaled_and_upright(
            scene_from_cam, cloud, prediction.depth, prepared, prediction, settings, why
        )
        metric = estimate.scale is not None
        source = estimate.source if metric else f"none: {estimate.reason}"
    return Anchoring(
        map_from_scene, metric, source, alignment.residual_m, up, None, verification, prediction, alignment.outliers
    )


def _scaled_and_upright(
    world_from_cam: Tensor,
    points: Tensor,
    depth: Tensor,
    prepared: PreparedFrames,
    prediction: Prediction,
    settings: AnchorSettings,
    why_no_priors: str,
) -> tuple[ScaleEstimate, Sim3, str]:
    """Scale of a world that no priors fixed, the similarity into a map with Z up, and what up was told from."""
    uprighting = upright(world_from_cam, points)
    estimates = [ScaleEstimate(None, "none", why_no_priors)]
    if prepared.depth is not None:
        estimates.append(scale_from_depth(depth, prepared.depth, prediction.depth_confidence))
    if settings.camera_height_m is not None:
        estimates.append(scale_from_height(world_from_cam, uprighting.floor, settings.camera_height_m))
    estimate = first_found(*estimates)
    map_from_world = Sim3(estimate.scale or 1.0, uprighting.rotation, torch.zeros(3, dtype=torch.float64))
    return estimate, map_from_world, uprighting.source
