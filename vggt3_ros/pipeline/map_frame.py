"""The map frame: metres and Z up from what tells them, and the prediction as the map sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.tensors import LandmarkTensors
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.pipeline.depth_scale import anchored
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.metric_scale import (
    ScaleEstimate,
    first_found,
    scale_from_depth,
    scale_from_height,
)
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.pipeline.prior_alignment import POSE_PRIORS, align_with_priors
from vggt3_ros.pipeline.tie import Tied
from vggt3_ros.pipeline.upright import upright
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

_STRIDE = 4  # pixels between the points that the floor is sought among


@dataclass(frozen=True, eq=False)
class Anchoring:
    """The map frame of S keyframes: see Scene for the fields that it has too.

    map_from_tied: from the frame in which the frames were tied to landmarks. prediction: as the map
    sees it, in scene units: cameras as adjusted and depths as scaled to the landmarks.
    prior_outliers: indices of frames whose prior pose is contradicted.
    """

    map_from_scene: Sim3
    map_from_tied: Sim3
    is_metric: bool
    metric_source: str
    metric_residual_m: float | None
    up_source: str
    landmarks: Landmarks | None
    verdict: MapVerdict
    calibration: MapCalibration | None
    report: dict[str, Any]
    prediction: Prediction
    prior_outliers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Placing:
    """A world's place in the map frame, what up was found from, and the floor where that was it:
    its Z in the map.
    """

    map_from_world: Sim3
    up_source: str
    floor_z: float | None

    def report(self) -> dict[str, float]:
        """Plain data for JSON: {"floor_z": number} where the floor was found."""
        return {} if self.floor_z is None else {"floor_z": self.floor_z}


def anchor(
    observed: Observed, tied: Tied, settings: AnchorSettings, surface: Tensor | None = None
) -> Anchoring:
    """Find the map frame of frames that were tied to landmarks, or could not be.

    surface (N, 3): points on surfaces in the landmarks' frame, better known than the landmarks
    alone; where priors fix neither metres nor up, the floor is sought among them.
    """
    if tied.landmarks is None or tied.anchors is None:
        return _without_landmarks(observed, tied, settings)
    landmarks = tied.landmarks
    anchors = tied.anchors
    problem = settings.priors_problem(observed.priors)
    if problem is None and not settings.priors_are_metric:
        problem = "the given poses have no scale"
    if problem is None:
        estimate = ScaleEstimate(1.0, POSE_PRIORS, "")
        placing = Placing(Sim3.identity(), POSE_PRIORS, None)
        residual: float | None = tied.prior_residual_m
        outliers = tied.prior_outliers
    else:
        points = LandmarkTensors(landmarks).positions if surface is None else surface
        depth = tied.depth(observed.prediction.depth)
        adjusted = LandmarkTensors(landmarks).world_from_cam
        estimate, placing = _scaled_and_upright(
            observed, adjusted, points, depth, settings, problem
        )
        landmarks = landmarks.transformed(placing.map_from_world)
        anchors = anchors.scaled(placing.map_from_world.scale)
        residual = None
        outliers = ()
    adjusted = LandmarkTensors(landmarks).world_from_cam
    bending = Bending.fit(observed.scene_from_cam, adjusted, anchors.scene_scale)
    agreement = {
        **bending.report(),
        "depth_error_before": anchors.error_before,
        "depth_error_after": anchors.error_after,
    }
    calibration = MapCalibration(
        image_sizes_wh=tuple((width, height) for height, width in observed.sizes_hw),
        focal_factor=tied.focal_factor,
        depth_scale=anchors.scene_scale,
    )
    return Anchoring(
        map_from_scene=bending.map_from_scene,
        map_from_tied=placing.map_from_world,
        is_metric=estimate.scale is not None,
        metric_source=estimate.source if estimate.scale is not None else f"none: {estimate.reason}",
        metric_residual_m=residual,
        up_source=placing.up_source,
        landmarks=landmarks,
        verdict=tied.verdict,
        calibration=calibration,
        report={**tied.report, "agreement": agreement, **placing.report()},
        prediction=anchored(
            observed.prediction,
            anchors.scale,
            adjusted,
            bending.map_from_scene,
            observed.intrinsics,
        ),
        prior_outliers=outliers,
    )


def _without_landmarks(observed: Observed, tied: Tied, settings: AnchorSettings) -> Anchoring:
    """The network alone: its poses against the priors, or its frame scaled and rotated as far as
    anything says how.
    """
    prediction = observed.prediction
    scene_from_cam = observed.scene_from_cam
    priors = observed.priors if settings.priors_are_metric else {}
    alignment = align_with_priors(scene_from_cam, priors)
    if alignment.metric_from_scene is not None:
        placing = Placing(alignment.metric_from_scene, POSE_PRIORS, None)
        metric = True
        source = alignment.source
    else:
        cloud = prediction.cameras.points(prediction.depth)[:, ::_STRIDE, ::_STRIDE].reshape(-1, 3)
        why = alignment.source.removeprefix("none: ")
        estimate, placing = _scaled_and_upright(
            observed, scene_from_cam, cloud, prediction.depth, settings, why
        )
        metric = estimate.scale is not None
        source = estimate.source if metric else f"none: {estimate.reason}"
    return Anchoring(
        map_from_scene=placing.map_from_world,
        map_from_tied=Sim3.identity(),
        is_metric=metric,
        metric_source=source,
        metric_residual_m=alignment.residual_m,
        up_source=placing.up_source,
        landmarks=None,
        verdict=tied.verdict,
        calibration=None,
        report={**tied.report, **placing.report()},
        prediction=prediction,
        prior_outliers=alignment.outliers,
    )


def _scaled_and_upright(
    observed: Observed,
    world_from_cam: Tensor,
    points: Tensor,
    depth: Tensor,
    settings: AnchorSettings,
    why_no_priors: str,
) -> tuple[ScaleEstimate, Placing]:
    """Scale of a world that no priors fixed, and the similarity into a map with Z up."""
    uprighting = upright(world_from_cam, points)
    estimates = [ScaleEstimate(None, "none", why_no_priors)]
    measured = observed.prepared.depth
    if measured is not None:
        estimates.append(scale_from_depth(depth, measured, observed.prediction.depth_confidence))
    if settings.camera_height_m is not None:
        estimates.append(
            scale_from_height(world_from_cam, uprighting.floor, settings.camera_height_m)
        )
    estimate = first_found(*estimates)
    scale = estimate.scale or 1.0
    map_from_world = Sim3(scale, uprighting.rotation, torch.zeros(3, dtype=torch.float64))
    floor_z = None if uprighting.floor_height is None else scale * uprighting.floor_height
    return estimate, Placing(map_from_world, uprighting.source, floor_z)
