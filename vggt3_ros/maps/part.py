"""A part of a scene: some of its keyframes, and what they see of some of its space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.dense.shape import camera_points
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.provenance import fractions
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.part import part
from vggt3_ros.landmarks.verdict import MIN_LANDMARKS
from vggt3_ros.scene.bounds import bounds_of
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.descent import kept_loops, kept_origins
from vggt3_ros.scene.scene import Keyframes, Scene
from vggt3_ros.scene.verification import MapVerdict

_SAME = 0.05  # of its depth in a keyframe: a point that is off by more is another one

Inside = Callable[[Tensor], Tensor]  # which of points (..., 3) of the map are wanted


def part_of(scene: Scene, kept: Tensor, inside: Inside | None = None) -> Scene:
    """The scene of the kept keyframes (S,): landmarks that two of them observe, points that one of
    them sees, their depth and images. With `inside`, landmarks, depth and points of that space, all
    points of it.

    The network's memory stays. Raises InputError where a map that could be verified would have too
    few landmarks to verify poses with.
    """
    depth = scene.depth
    if depth is not None:
        depth = _depth(depth, kept, inside)
    left = replace(
        scene,
        keyframes=_keyframes(scene.keyframes, kept),
        images=None if scene.images is None else scene.images[kept],
        depth=depth,
        origins=kept_origins(scene.origins, kept),
        loops=kept_loops(scene.loops, kept),
        **_verified(scene, kept, inside),
    )
    everywhere = scene.points.points
    points = scene.points[_seen(left, everywhere) if inside is None else inside(everywhere)]
    bounds = bounds_of(points, left.map_from_keyframes)
    return replace(left, points=points, bounds=bounds, report=_report(scene, depth))


def _keyframes(keyframes: Keyframes, kept: Tensor) -> Keyframes:
    rows = kept.nonzero()[:, 0].tolist()
    return Keyframes(
        names=tuple(keyframes.names[row] for row in rows),
        stamps_ns=tuple(keyframes.stamps_ns[row] for row in rows),
        cam_from_world=keyframes.cam_from_world[kept],
        intrinsics=keyframes.intrinsics[kept],
    )


def _verified(scene: Scene, kept: Tensor, inside: Inside | None) -> dict[str, Any]:
    """Landmarks, verdict and calibration of what is left."""
    calibration = scene.calibration
    if calibration is not None:
        rows = kept.nonzero()[:, 0].tolist()
        sizes_wh = tuple(calibration.image_sizes_wh[row] for row in rows)
        calibration = replace(calibration, image_sizes_wh=sizes_wh)
    if not scene.landmarks:
        return {"calibration": calibration}
    wanted = torch.ones(len(scene.landmarks["positions"]), dtype=torch.bool)
    if inside is not None:
        wanted = inside(scene.landmarks["positions"])
    landmarks = part(Landmarks.from_tensors(scene.landmarks), kept.numpy(), wanted.numpy())
    if len(landmarks) < MIN_LANDMARKS:
        raise InputError(
            f"{len(landmarks)} of {len(wanted)} landmarks would be left, {MIN_LANDMARKS} are needed"
            " to verify poses; keep more keyframes, or give a larger box"
        )
    verdict = scene.verdict
    if verdict.verified:
        seeing = len(np.unique(landmarks.observed_from))
        count = f"{len(landmarks)} landmarks tie {seeing} of {int(kept.sum())} keyframes"
        verdict = MapVerdict(True, f"{count}, left by editing a larger map", verdict.poses)
    return {"landmarks": landmarks.tensors(), "verdict": verdict, "calibration": calibration}


def _depth(depth: KeyframeDepth, kept: Tensor, inside: Inside | None) -> KeyframeDepth:
    """Of the kept keyframes; outside it is not known."""
    left = KeyframeDepth(
        depth=depth.depth[kept],
        provenance=depth.provenance[kept],
        intrinsics=depth.intrinsics[kept],
        world_from_cam=depth.world_from_cam[kept],
        images=None if depth.images is None else depth.images[kept],
    )
    if inside is None:
        return left
    wanted = torch.empty_like(left.depth, dtype=torch.bool)
    for row, pose in enumerate(left.world_from_cam):
        seen = camera_points(left.depth[row][None], left.intrinsics[row][None])[0].double()
        wanted[row] = inside(transform_points(pose, seen.flatten(0, 1)).view_as(seen))
    return replace(
        left,
        depth=torch.where(wanted, left.depth, 0.0),
        provenance=torch.where(wanted, left.provenance, 0).to(torch.uint8),
    )


def _seen(scene: Scene, points: Tensor) -> Tensor:
    """Which points (N, 3) a keyframe of the scene sees: where there is depth, at that depth; else
    somewhere in its image.
    """
    depth = scene.depth if scene.has_refined_points else None
    poses = scene.map_from_keyframes if depth is None else depth.world_from_cam
    intrinsics = scene.keyframes.intrinsics if depth is None else depth.intrinsics
    height, width = scene.input_size if depth is None else depth.depth.shape[1:]
    seen = torch.zeros(len(points), dtype=torch.bool)
    for row, pose in enumerate(poses):
        open_ = (~seen).nonzero()[:, 0]
        local = transform_points(se3_inverse(pose), points[open_].double())
        pixels, z = project(local, intrinsics[row])
        column, line = pixels.nan_to_num(-1.0).clamp(-1, max(height, width)).round().unbind(-1)
        shown = (z > 0) & (column >= 0) & (column < width) & (line >= 0) & (line < height)
        if depth is not None:
            known = depth.depth[row][
                line.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            ]
            shown &= (z - known).abs() <= _SAME * known
        seen[open_[shown]] = True
    return seen


def _report(scene: Scene, depth: KeyframeDepth | None) -> dict[str, Any]:
    """What holds of the figures of the whole: where the floor is, and those of depth that can be
    told again.
    """
    report = {name: scene.report[name] for name in ("floor_z",) if name in scene.report}
    if depth is not None:
        height, width = depth.depth.shape[1:]
        known = fractions(depth.provenance)
        shares = {name: round(fraction, 4) for name, fraction in known.items()}
        report["depth"] = {"size_wh": [width, height], "shares": shares}
    return report
