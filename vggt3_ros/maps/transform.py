"""A scene in another map frame: turned, moved or scaled, and all that depends on it with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.scene.bounds import bounds_of
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Scene


def transformed(scene: Scene, new_from_map: Sim3) -> Scene:
    """The same place in a new map frame: poses, covariances, landmarks, points, depth, scale and
    bounds. The network's memory knows no map frame and stays.

    metric_source and up_source stay: whoever makes them wrong, sets them.
    """
    landmarks = scene.landmarks
    if landmarks:
        landmarks = Landmarks.from_tensors(landmarks).transformed(new_from_map).tensors()
    calibration = scene.calibration
    if calibration is not None:
        scaled = calibration.depth_scale * new_from_map.scale
        calibration = replace(calibration, depth_scale=scaled)
    residual = scene.metric_residual_m
    moved = replace(
        scene,
        landmarks=landmarks,
        points=scene.points.transformed(new_from_map),
        depth=None if scene.depth is None else _depth(scene.depth, new_from_map),
        map_from_scene=new_from_map @ scene.map_from_scene,
        calibration=calibration,
        metric_residual_m=None if residual is None else residual * new_from_map.scale,
        report=_report(scene.report, new_from_map),
    )
    return replace(moved, bounds=bounds_of(moved.points, moved.map_from_keyframes))


def _depth(depth: KeyframeDepth, new_from_map: Sim3) -> KeyframeDepth:
    return replace(
        depth,
        depth=(depth.depth.double() * new_from_map.scale).float(),
        world_from_cam=new_from_map.poses(depth.world_from_cam),
    )


def _report(report: dict[str, Any], new_from_map: Sim3) -> dict[str, Any]:
    """Figures for people: the planes and the floor are where they are in the new frame."""
    report = dict(report)
    depth = report.get("depth", {})
    if "planes" in depth:
        planes = [
            {**each, "plane": _plane(each["plane"], new_from_map)} for each in depth["planes"]
        ]
        report["depth"] = {**depth, "planes": planes}
    if "floor_z" in report:
        floor = _plane([0.0, 0.0, 1.0, -report["floor_z"]], new_from_map)
        is_level = floor[2] > 1 - 1e-9
        report.pop("floor_z")
        if is_level:
            report["floor_z"] = -floor[3]
    return report


def _plane(plane: list[float], new_from_map: Sim3) -> list[float]:
    """Unit normal and offset, normal . x + offset = 0, of a plane in the new frame."""
    given = torch.tensor(plane, dtype=torch.float64)
    normal = new_from_map.rotation @ given[:3]
    offset = new_from_map.scale * given[3] - normal @ new_from_map.translation
    return [*normal.tolist(), float(offset)]
