"""The network's depths agree with the landmarks: each keyframe's is scaled to those it observes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import encode_camera, project
from vggt3_ros.geometry.robust import robust_deviation
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.tensors import LandmarkTensors
from vggt3_ros.model.prediction import Prediction

_MIN_OBSERVATIONS = 8


@dataclass(frozen=True, eq=False)
class DepthAnchors:
    """scale (S,) float64, map units per predicted unit of each keyframe's depth, and scene_scale,
    their common middle.

    observations (S,) landmarks compared per keyframe. error_before, error_after: median relative
    error of depth at the landmarks with the common scale and with each keyframe's own, found on
    other landmarks; None where there are none.
    """

    scale: Tensor
    scene_scale: float
    observations: Tensor
    error_before: float | None
    error_after: float | None

    def scaled(self, factor: float) -> DepthAnchors:
        """The same in another unit: lengths of the map are `factor` times as large."""
        return replace(self, scale=factor * self.scale, scene_scale=factor * self.scene_scale)


def anchor_depths(
    depth: Tensor, landmarks: Landmarks, intrinsics: Tensor, fallback_scale: float = 1.0
) -> DepthAnchors:
    """Scale predicted depth (S, h, w) to the landmarks each keyframe observes; intrinsics (S, 3, 3)
    of these pixels.

    A keyframe's scale is its median, drawn to the scene's as far as the scatter of its landmarks
    demands; with less than 8 landmarks it is the scene's. fallback_scale is that of a scene in
    which nothing can be compared.
    """
    if len(landmarks.world_from_cam) != len(depth):
        raise InputError(
            f"{len(landmarks.world_from_cam)} keyframes of landmarks but {len(depth)} depth images;"
            " give one each"
        )
    keyframe, logs = _depth_ratios(depth, landmarks, intrinsics.double())
    count = torch.bincount(keyframe, minlength=len(depth))
    if len(logs) == 0:
        scale = torch.full((len(depth),), fallback_scale, dtype=torch.float64)
        return DepthAnchors(scale, fallback_scale, count, None, None)
    scales, common = _log_scales(keyframe, logs, len(depth))
    even = torch.arange(len(logs)) % 2 == 0
    errors = []
    for fitted, checked in ((even, ~even), (~even, even)):
        if bool(fitted.any()):
            half, _ = _log_scales(keyframe[fitted], logs[fitted], len(depth))
            errors.append((half[keyframe[checked]] - logs[checked]).expm1().abs())
    before = float((common - logs).expm1().abs().quantile(0.5))
    return DepthAnchors(
        scales.exp(), math.exp(common), count, before, float(torch.cat(errors).quantile(0.5))
    )


def _depth_ratios(depth: Tensor, landmarks: Landmarks, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Keyframe (O,) and log ratio (O,) of true to predicted depth, at the landmarks seen within the
    image.
    """
    tensors = LandmarkTensors(landmarks)
    keyframe = tensors.observed_from
    position = tensors.positions.double()[tensors.observed]
    cam_from_world = se3_inverse(tensors.world_from_cam)[keyframe]
    in_camera = transform_points(cam_from_world, position[:, None])
    pixels, z = project(in_camera, intrinsics[keyframe])
    column, row = (
        pixels[:, 0].nan_to_num(-1.0).round().clamp(-1, max(depth.shape[1:])).long().unbind(-1)
    )
    z = z[:, 0]
    inside = (
        (column >= 0) & (column < depth.shape[2]) & (row >= 0) & (row < depth.shape[1]) & (z > 0)
    )
    keyframe = keyframe[inside]
    z = z[inside]
    predicted = depth[keyframe, row[inside], column[inside]].double()
    usable = predicted.isfinite() & (predicted > 0)
    return keyframe[usable], (z[usable] / predicted[usable]).log()


def _log_scales(keyframe: Tensor, logs: Tensor, count: int) -> tuple[Tensor, float]:
    """Log scales (count,) of the keyframes, and the scene's: empirical Bayes with robust
    variances.
    """
    middle = float(logs.quantile(0.5))
    own = torch.full((count,), middle, dtype=torch.float64)
    observations = torch.bincount(keyframe, minlength=count)
    enough = observations >= _MIN_OBSERVATIONS
    for index in enough.nonzero()[:, 0].tolist():
        own[index] = logs[keyframe == index].quantile(0.5)
    if not bool(enough.any()):
        return own, middle
    within = robust_deviation((logs - own[keyframe])[enough[keyframe]]) ** 2
    between = robust_deviation(own[enough] - middle) ** 2
    trust = between / (between + math.pi / 2 * within / observations.clamp(min=1) + 1e-12)
    return middle + trust * (own - middle), middle


def anchored(
    prediction: Prediction,
    scale: Tensor,
    map_from_cam: Tensor,
    map_from_scene: Sim3,
    intrinsics: Tensor,
) -> Prediction:
    """The prediction of S keyframes as the map sees them, still in scene units: adjusted cameras,
    anchored depths.

    scale (S,) of `anchor_depths`, map_from_cam (S, 4, 4) adjusted poses, intrinsics (S, 3, 3) in
    pixels of the prediction: known ones, with the principal point at the centre, or predicted.
    """
    factor = (scale / map_from_scene.scale).double()
    scene_from_cam = map_from_scene.inverse().poses(map_from_cam.double())
    encoding = encode_camera(se3_inverse(scene_from_cam), intrinsics.double(), prediction.size_hw)
    depth = (prediction.depth.double() * factor[:, None, None]).to(prediction.depth.dtype)
    pointmap = prediction.pointmap
    if pointmap is not None:
        in_camera = transform_points(
            prediction.cameras.cam_from_world, pointmap.double().flatten(1, 2)
        )
        moved = transform_points(scene_from_cam, factor[:, None, None] * in_camera)
        pointmap = moved.to(pointmap.dtype).view_as(pointmap)
    return replace(prediction, pose_encoding=encoding, depth=depth, pointmap=pointmap)
