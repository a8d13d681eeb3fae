"""Spheres, rooms and walls as depth images of analytic accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import look_at

COLOR = (200, 100, 50)
# a sphere that crosses the planes of 0
CENTER, RADIUS = torch.tensor([0.1, -0.2, 0.15], dtype=torch.float64), 0.5
WIDTH, HEIGHT, FOCAL = 80, 64, 40.0
_UP = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class DepthViews:
    """S views: depth and weights (S, h, w), images (S, 3, h, w), intrinsics (S, 3, 3),
    world_from_cam (S, 4, 4).
    """

    depth: Tensor
    weights: Tensor
    images: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """In the order of `fuse`."""
        return self.depth, self.weights, self.images, self.intrinsics, self.world_from_cam

    def with_depth(self, depth: Tensor) -> DepthViews:
        """The same views of other depth."""
        return replace(self, depth=depth)


def rays() -> Tensor:
    """Directions (h, w, 3) of all pixels, with z = 1."""
    x = (torch.arange(WIDTH).double() - WIDTH / 2) / FOCAL
    y = (torch.arange(HEIGHT).double() - HEIGHT / 2) / FOCAL
    columns, rows = torch.meshgrid(x, y, indexing="xy")
    return torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)


def views(depth: Tensor, world_from_cam: Tensor) -> DepthViews:
    """Views of depth (S, h, w) in one colour, all of weight 1."""
    count = len(depth)
    images = torch.tensor(COLOR, dtype=torch.uint8)[None, :, None, None].expand(
        count, 3, HEIGHT, WIDTH
    )
    intrinsics = intrinsics_matrix(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2).expand(count, 3, 3)
    return DepthViews(
        depth.float(), torch.ones(count, HEIGHT, WIDTH), images, intrinsics, world_from_cam
    )


def sphere() -> DepthViews:
    """A sphere about CENTER from 14 sides, of which every part is seen by some."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double()
    sides = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    directions = torch.nn.functional.normalize(torch.cat([corners, sides]), dim=1)
    poses = look_at(CENTER + 1.6 * directions, CENTER.expand(14, 3), _UP)
    ray = rays()
    along = ray[..., 2] * 1.6
    square = ray.square().sum(-1)
    inside = along.square() - square * (1.6**2 - RADIUS**2)
    depth = torch.where(inside > 0, (along - inside.clamp(min=0).sqrt()) / square, 0.0)
    return views(depth.expand(14, HEIGHT, WIDTH), poses)


def room(half: float = 1.0) -> DepthViews:
    """A cubic room with walls `half` from the origin, from its middle towards all sides; every part
    is seen.
    """
    sides = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    corners = torch.nn.functional.normalize(
        torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double(), dim=1
    )
    positions = torch.zeros(14, 3).double()
    poses = look_at(positions, torch.cat([sides, corners]), _UP)
    directions = rays() @ poses[:, None, :3, :3].transpose(-1, -2)
    return views(half / directions.abs().amax(-1), poses)


def wall(distance: float, count: int = 1) -> DepthViews:
    """A wall that faces `count` views of the same place, `distance` before them along the world's
    z.
    """
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = 0.02 * torch.arange(count)
    return views(torch.full((count, HEIGHT, WIDTH), distance), poses)


def together(*parts: DepthViews) -> DepthViews:
    """All views of several."""
    return DepthViews(
        *(torch.cat(tensors) for tensors in zip(*(part.arguments() for part in parts), strict=True))
    )
