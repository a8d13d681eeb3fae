"""Depth of a map's keyframes refined by what they see of each other, and the cloud of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.fusion import TAKEN, fused_cloud
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.refine import OverBudgetError, refine
from vggt3_ros.dense.resize import averaged, averaged_intrinsics, working_size
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.shape import camera_points
from vggt3_ros.geometry.pointcloud import PointCloud, at_most
from vggt3_ros.geometry.provenance import Provenance, fractions
from vggt3_ros.geometry.se3 import transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.tensors import LandmarkTensors
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.resize import usual_size
from vggt3_ros.pipeline.undistort import undistorted
from vggt3_ros.scene.depth import KeyframeDepth

FAST = DenseSettings()
FINE = DenseSettings(long_side=320)
DENSE = {"off": None, "fast": FAST, "fine": FINE}  # what users call them
_VOXEL = 0.02  # metres
_VOXEL_SHARE = 0.01  # of the median depth
_SPARSE = 16  # pixels per point that the floor is sought among


@dataclass(frozen=True, eq=False)
class RefinedDepth:
    """depth of the keyframes, in the unit and frame of their poses, at the size at which they were
    matched.

    note: why that size is smaller than the one asked for, empty where it is not.
    """

    keyframes: Keyframes
    depth: DenseDepth
    note: str = ""

    def transformed(self, new_from_world: Sim3) -> RefinedDepth:
        """The same in another frame and unit."""
        keyframes = self.keyframes.transformed(new_from_world)
        depth = self.depth.transformed(new_from_world)
        return RefinedDepth(keyframes, depth, self.note)

    def surface(self) -> Tensor:
        """Points (N, 3) float64 on what keyframes agree on and on planes carried on from there: of
        every 16th pixel.
        """
        points = []
        for index, pose in enumerate(self.keyframes.world_from_cam):
            kind = self.depth.provenance[index]
            solid = (kind == Provenance.AGREED) | (kind == Provenance.PLANE)
            own = camera_points(
                self.depth.depth[index][None], self.keyframes.intrinsics[index][None]
            )[0]
            points.append(transform_points(pose.double(), own[solid][::_SPARSE].double()))
        return torch.cat(points).cpu()

    def report(self) -> dict[str, Any]:
        """Plain data for JSON: the note, if there is one; size of the matched images; the share of
        their pixels whose depth is known in each way; the planes of the map, largest first (unit
        normal, offset: normal . x + offset = 0), with the share of all pixels that agree and lie on
        each.
        """
        height, width = self.keyframes.size_hw
        known = fractions(self.depth.provenance)
        planes = zip(self.depth.planes.tolist(), self.depth.plane_shares.tolist(), strict=True)
        return {
            **({"note": self.note} if self.note else {}),
            "size_wh": [width, height],
            "shares": {name: round(fraction, 4) for name, fraction in known.items()},
            "planes": [{"plane": plane, "share": round(part, 4)} for plane, part in planes],
        }

    def stored(self, with_images: bool) -> KeyframeDepth:
        """As a scene keeps it."""
        images = (
            (self.keyframes.images * 255).round().clamp(0, 255).to(torch.uint8).cpu()
            if with_images
            else None
        )
        return KeyframeDepth(
            depth=self.depth.depth.cpu(),
            provenance=self.depth.provenance.cpu(),
            intrinsics=self.keyframes.intrinsics.double().cpu(),
            world_from_cam=self.keyframes.world_from_cam.double().cpu(),
            images=images,
        )

    def cloud(
        self, metric: bool, max_points: int, take: Sequence[Provenance] = TAKEN
    ) -> PointCloud:
        """The points in the map: one per voxel of 1 % of the median depth, at most 2 cm where the
        map has metres; voxels grow until max_points suffice.
        """
        known = self.depth.depth[self.depth.depth > 0]
        voxel = _VOXEL_SHARE * float(known.median()) if len(known) else _VOXEL
        voxel = min(voxel, _VOXEL) if metric else voxel
        fused = partial(fused_cloud, self.depth, self.keyframes, take=take)
        return at_most(max_points, fused, voxel)


def refined_depth(
    frames: Sequence[Frame],
    prepared: PreparedFrames,
    predicted_depth: Tensor,
    landmarks: Landmarks,
    settings: DenseSettings,
    device: torch.device,
    progress: Callable[[float], None] | None = None,
) -> RefinedDepth:
    """Refine the depth of S frames, given as prepared for the network, and what it predicted (S, H,
    W) of them.

    That is in the unit of the landmarks, with whose cameras it is matched, on `device`.
    progress(0..1) may raise to cancel. Where settings.seconds do not suffice, images are matched in
    the size of FAST; raises OverBudgetError where that takes too long as well.
    """

    def attempt(settings: DenseSettings, note: str) -> RefinedDepth:
        size_hw = working_size(usual_size(frame.size_hw for frame in frames), settings.long_side)
        keyframes = _keyframes(frames, prepared, predicted_depth, landmarks, size_hw, device)
        return RefinedDepth(keyframes, refine(keyframes, settings, progress), note)

    try:
        return attempt(settings, "")
    except OverBudgetError as error:
        if settings.long_side <= FAST.long_side:
            raise
        return attempt(replace(settings, long_side=FAST.long_side), str(error))


def _keyframes(
    frames: Sequence[Frame],
    prepared: PreparedFrames,
    predicted_depth: Tensor,
    landmarks: Landmarks,
    size_hw: tuple[int, int],
    device: torch.device,
) -> Keyframes:
    """What is refined, at the size at which it is matched."""
    images = []
    intrinsics = []
    predicted = []
    for index, frame in enumerate(frames):
        pinhole = undistorted(frame)
        image = torch.from_numpy(np.ascontiguousarray(pinhole.image)).permute(2, 0, 1)
        images.append(averaged(image.float() / 255, size_hw))
        own = _own_intrinsics(frame, pinhole, landmarks, index)
        intrinsics.append(averaged_intrinsics(own, frame.size_hw, size_hw))
        to_source = torch.linalg.inv(
            averaged_intrinsics(torch.eye(3).double(), frame.size_hw, size_hw)
        )
        predicted.append(
            _sampled(
                predicted_depth[index].float(),
                prepared.pixels_from_source[index] @ to_source,
                size_hw,
            )
        )
    tensors = LandmarkTensors(landmarks, device)
    return Keyframes(
        images=torch.stack(images).to(device),
        intrinsics=torch.stack(intrinsics).to(device),
        world_from_cam=tensors.world_from_cam,
        predicted=torch.stack(predicted).to(device),
        points=tensors.positions,
        observed=tensors.observed,
        observed_from=tensors.observed_from,
    )


def _own_intrinsics(frame: Frame, pinhole: Frame, landmarks: Landmarks, index: int) -> Tensor:
    """Intrinsics (3, 3) of the undistorted image: those of the landmarks, zoomed as undistorting
    did.
    """
    own = LandmarkTensors(landmarks).intrinsics[index].clone()
    if frame.intrinsics is not None and pinhole.intrinsics is not None:
        zoom = pinhole.intrinsics[0, 0] / frame.intrinsics[0, 0]
        own[[0, 1], [0, 1]] *= zoom
    return own


def _sampled(depth: Tensor, pixels_from_new: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Depth (h, w) at the pixels of another image (*size_hw), whose pixels are brought into it by
    (3, 3): bilinear, 0 outside.
    """
    height, width = size_hw
    rows, columns = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    new = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    pixels = (new @ pixels_from_new.double().cpu().T)[..., :2]
    last = torch.tensor([depth.shape[1] - 1, depth.shape[0] - 1]).double()
    inside = ((pixels >= -0.5) & (pixels <= last + 0.5)).all(-1)
    grid = (2 * pixels / last - 1)[None].to(depth)
    sampled = grid_sample(depth[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    return torch.where(inside.to(depth.device), sampled, 0.0)
