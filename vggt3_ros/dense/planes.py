"""Planes among the points of a keyframe, and which of them a surface without texture continues."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vggt3_ros.dense.shape import camera_points, normals
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3

_SAMPLED = 1500  # points
_TRIED = 200  # hypotheses, one oriented point each
_MOST = 14  # planes
_THICKNESS = 0.01  # of a plane, as a share of the distance of its points
_SAME_SIDE = math.cos(math.radians(30.0))
_LEAST_SHARE = 0.015  # of the points
_SAME_PLANE = math.cos(math.radians(5.0))  # planes of several keyframes are one if they differ by less ...
_SAME_OFFSET = 0.1  # ... and by less than this, metres


def visible_planes(depth: Tensor, known: Tensor, intrinsics: Tensor) -> Tensor:
    """Planes (P, 4) in camera axes, unit normal and offset (normal . x + offset = 0), of one keyframe, largest first.

    depth (h, w), of which `known` (h, w) is believed; intrinsics (3, 3).
    """
    points = camera_points(depth[None], intrinsics[None])
    normal, oriented = normals(points, known[None])
    points, normal = points[oriented], normal[oriented]
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(points), generator=generator)[:_SAMPLED].to(points.device)
    return find_planes(points[chosen], normal[chosen], generator)


def find_planes(points: Tensor, normals: Tensor, generator: torch.Generator) -> Tensor:
    """Planes (P, 4) among points (N, 3) seen from the origin, with normals (N, 3): the largest first, one by one."""
    least = max(12, math.ceil(_LEAST_SHARE * len(points)))
    thickness = _THICKNESS * points.norm(dim=1)
    found: list[Tensor] = []
    while len(points) >= least and len(found) < _MOST:
        tried = torch.randint(len(points), (min(_TRIED, len(points)),), generator=generator).to(points.device)
        planes = torch.cat([normals[tried], -(normals[tried] * points[tried]).sum(1, keepdim=True)], dim=1)
        plane = planes[_on(planes, points, normals, thickness).sum(1).argmax()]
        for _ in range(2):
            near = _on(plane[None], points, normals, thickness)[0]
            if int(near.sum()) < least:
                break
            plane = _fitted(points[near])
        near = _on(plane[None], points, normals, thickness)[0]
        if int(near.sum()) < least:
            break
        found.append(plane)
        points, normals, thickness = points[~near], normals[~near], thickness[~near]
    return torch.stack(found) if found else points.new_zeros(0, 4)


def plane_inverse(planes: Tensor, intrinsics: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Inverse depth (P, h, w) of planes (P, 4) in camera axes; not above 0 where a ray does not meet it in front."""
    rays = camera_points(torch.ones(1, *size_hw, device=planes.device), intrinsics[None])[0]
    along: Tensor = planes[:, :3] @ rays.flatten(0, 1).T
    return -along.view(-1, *size_hw) / planes[:, 3, None, None]


def moved_planes(planes: Tensor, new_from_old: Sim3) -> Tensor:
    """Planes (P, 4) in another frame and unit."""
    normals = planes[:, :3].double() @ new_from_old.rotation.to(planes.device).T
    shift = normals @ new_from_old.translation.to(planes.device)
    offset = new_from_old.scale * planes[:, 3].double() - shift
    return torch.cat([normals, offset[:, None]], dim=1).to(planes.dtype)


def in_world(planes: Tensor, world_from_cam: Tensor) -> Tensor:
    """Planes (P, 4) of a camera's axes in the world's."""
    turned = planes[:, :3].double() @ world_from_cam[:3, :3].double().T
    offset = planes[:, 3].double() - turned @ world_from_cam[:3, 3].double()
    return torch.cat([turned, offset[:, None]], dim=1).float()


def in_camera(planes: Tensor, world_from_cam: Tensor) -> Tensor:
    """Planes (P, 4) of the world in a camera's axes."""
    return in_world(planes, se3_inverse(world_from_cam.double()))


def merged_planes(planes: Sequence[Tensor]) -> Tensor:
    """Planes (P, 4) of several keyframes (n, 4) in the world, each once: those found by most keyframes first."""
    every = torch.cat(list(planes))
    found = [every[:0]]
    while len(every):
        cosine = every[:, :3] @ every[:, :3].T
        same = (cosine.abs() > _SAME_PLANE) & ((every[:, 3:] * cosine.sign() - every[:, 3]).abs() < _SAME_OFFSET)
        most = int(same.sum(1).argmax())
        group = every[same[most]] * cosine[same[most], most, None].sign()
        mean = group.mean(0, keepdim=True)
        found.append(mean / mean[:, :3].norm())
        every = every[~same[most]]
    return torch.cat(found)


def _on(planes: Tensor, points: Tensor, normals: Tensor, thickness: Tensor) -> Tensor:
    """Which points (N, 3) lie on which planes (P, 4), with normals that look about the same way: (P, N)."""
    distance = (planes[:, :3] @ points.T + planes[:, 3:]).abs()
    return (distance < thickness) & ((planes[:, :3] @ normals.T).abs() > _SAME_SIDE)


def _fitted(points: Tensor) -> Tensor:
    """The plane (4,) with the least sum of squared distances to points (N, 3), each weighted by its nearness."""
    weight = 1 / points.square().sum(1, keepdim=True)
    centre = (weight * points).sum(0) / weight.sum()
    off = points - centre
    normal = torch.linalg.eigh((off * weight).T @ off).eigenvectors[:, 0]
    normal = torch.where(normal @ centre > 0, -normal, normal)
    return torch.cat([normal, -(normal @ centre)[None]])
