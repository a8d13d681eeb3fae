"""The shape of a depth image: how it bends, how steeply it is looked at, and its normals."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.cameras import homogeneous_pixels


def bend(depth: Tensor) -> Tensor:
    """Relative second difference (B, h, w) of inverse depth over 2 pixels each way: 0 on planes,
    slanted or not.
    """
    inverse = 1 / depth.clamp(min=1e-6)
    second = torch.zeros_like(inverse)
    for axis in (1, 2):
        size = inverse.shape[axis]
        before = inverse.narrow(axis, 0, size - 4)
        after = inverse.narrow(axis, 4, size - 4)
        middle = second.narrow(axis, 2, size - 4)
        change = (before + after - 2 * inverse.narrow(axis, 2, size - 4)).abs()
        middle.copy_(torch.maximum(middle, change))
    return second / inverse


def steepness(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Focal length times relative change of depth per pixel (B, h, w): the tangent of the angle of
    incidence.
    """
    logs = depth.clamp(min=1e-6).log()
    across = torch.zeros_like(logs)
    down = torch.zeros_like(logs)
    across[:, :, 1:-1] = (logs[:, :, 2:] - logs[:, :, :-2]) / 2
    down[:, 1:-1] = (logs[:, 2:] - logs[:, :-2]) / 2
    fx, fy = (intrinsics[:, i, i, None, None].float() for i in range(2))
    return torch.hypot(fx * across, fy * down)


def camera_points(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points (B, h, w, 3) in camera axes, metres."""
    height, width = depth.shape[-2:]
    pixels = homogeneous_pixels((height, width), depth).flatten(1)
    rays: Tensor = torch.linalg.inv(intrinsics.double()).float() @ pixels
    return rays.view(-1, 3, height, width).permute(0, 2, 3, 1) * depth[..., None]


def normals(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals (B, h, w, 3) that face the camera, of points (B, h, w, 3), and where they are
    known (B, h, w).

    They are so where all four pixels at a distance of 2 are.
    """
    inner = slice(2, -2)
    outer = (slice(4, None), slice(None, -4))
    across = points[:, inner, outer[0]] - points[:, inner, outer[1]]
    down = points[:, outer[0], inner] - points[:, outer[1], inner]
    normal = torch.nn.functional.normalize(torch.linalg.cross(down, across, dim=-1), dim=-1)
    found = torch.zeros_like(known)
    everywhere = torch.zeros_like(points)
    around = (
        known[:, inner, outer[0]]
        & known[:, inner, outer[1]]
        & known[:, outer[0], inner]
        & known[:, outer[1], inner]
    )
    found[:, inner, inner] = known[:, inner, inner] & around
    everywhere[:, inner, inner] = normal
    return everywhere, found
