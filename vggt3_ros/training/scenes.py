"""A batch of scenes as the losses take it, whether its images were rendered or photographed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import se3_inverse

_STRIDE = 4  # pixels between those that the scale is measured on


@dataclass(frozen=True, eq=False)
class Views:
    """V views of one scene by one camera, in metres. Depth is along z, 0 where it is unknown."""

    images: Tensor  # (V, 3, H, W) uint8
    depth: Tensor  # (V, H, W)
    world_from_cam: Tensor  # (V, 4, 4)
    intrinsics: Tensor  # (3, 3) pixels
    synthetic: bool  # whether depth is exact and everywhere


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """B scenes of V views. World = the first view's camera; lengths are divided by the mean
    distance of its points.
    """

    images: Tensor  # (B, V, 3, H, W) in [0, 1]
    depth: Tensor  # (B, V, H, W), 0 where unknown
    cam_from_world: Tensor  # (B, V, 4, 4)
    intrinsics: Tensor  # (B, 3, 3) pixels
    synthetic: Tensor  # (B,) bool, whether depth is exact and everywhere


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device that trains: from the CPU by way of pinned memory, which nobody has to
    wait for.
    """
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def normalised(images: Tensor, scenes: list[Views], map_views: int) -> SceneBatch:
    """Express metric scenes in the first view's frame and in units of the mean distance of the map
    views' points.

    images (B, V, 3, H, W): the scenes' own, as the network shall see them. Pixels of unknown depth
    do not count.
    """
    device = images.device
    depth = torch.stack([sent(scene.depth, device).float() for scene in scenes])
    world_from_cam = torch.stack([sent(scene.world_from_cam, device).float() for scene in scenes])
    intrinsics = torch.stack([sent(scene.intrinsics, device).float() for scene in scenes])
    synthetic = sent(torch.tensor([scene.synthetic for scene in scenes]), device)
    cam_from_first = se3_inverse(world_from_cam) @ world_from_cam[:, :1]
    sparse = depth[:, :map_views, ::_STRIDE, ::_STRIDE]
    coarse = torch.cat([intrinsics[:, :2] / _STRIDE, intrinsics[:, 2:]], dim=1)
    points = unproject(sparse, coarse[:, None]).flatten(2, 3)  # (B, V, N, 3) camera frames
    first_from_cam = se3_inverse(cam_from_first[:, :map_views])
    in_first = (
        points @ first_from_cam[..., :3, :3].transpose(-1, -2) + first_from_cam[..., None, :3, 3]
    )
    known = (sparse > 0).flatten(2, 3)
    total = (torch.linalg.vector_norm(in_first, dim=-1) * known).sum((1, 2))
    scale = (total / known.sum((1, 2)).clamp(min=1)).clamp(1e-6, 1e6)
    cam_from_first = cam_from_first.clone()
    cam_from_first[..., :3, 3] /= scale[:, None, None]
    return SceneBatch(
        images, depth / scale[:, None, None, None], cam_from_first, intrinsics, synthetic
    )
