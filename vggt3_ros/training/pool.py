"""A pool of rendered scenes that is renewed as training goes on; every batch is a function of seed and step.

Group g holds `group_rooms` rooms that nobody has seen before. At step t the pool holds the `pool_groups` newest of the
groups 0 .. t / steps_per_group; a resumed run renders those again and goes on exactly as the first would have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.worlds.jitter import photometric_jitter
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.textures import HELD_OUT_SEED
from vggt3_ros.worlds.trajectories import tour
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views

_STRIDE = 4  # pixels between those that the scale is measured on


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """B scenes of V views. World = the first view's camera; lengths are divided by the mean distance of its points."""

    images: Tensor  # (B, V, 3, H, W) in [0, 1]
    depth: Tensor  # (B, V, H, W)
    cam_from_world: Tensor  # (B, V, 4, 4)
    intrinsics: Tensor  # (B, 3, 3) pixels


@dataclass(frozen=True, eq=False)
class _Group:
    images: Tensor  # (R, V, 3, H, W) uint8
    depth: Tensor  # (R, V, H, W) float16 metres
    world_from_cam: Tensor  # (R, V, 4, 4) float32 metres
    intrinsics: Tensor  # (R, 3, 3) float32


class ScenePool:
    """Rendered scenes, on the device that trains."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.groups: dict[int, _Group] = {}

    def batch(self, step: int) -> SceneBatch:
        """The batch of a step: scenes drawn from the pool, views shuffled, photometric jitter per image."""
        config = self.config
        generator = _generator(self.device, config.seed, step, stream=1)
        newest = config.pool_groups - 1 + step // config.steps_per_group
        for index in range(newest - config.pool_groups + 1, newest + 1):
            if index not in self.groups:
                self.groups[index] = self._render(index)
        for index in [i for i in self.groups if i <= newest - config.pool_groups]:
            del self.groups[index]
        alive = sorted(self.groups)
        rooms = config.pool_groups * config.group_rooms
        picks = torch.randperm(rooms, generator=generator, device=self.device)[: config.scenes].tolist()
        scenes = []
        for pick in picks:
            group, room = self.groups[alive[pick // config.group_rooms]], pick % config.group_rooms
            order = torch.randperm(config.views, generator=generator, device=self.device)
            per_view = (group.images, group.depth, group.world_from_cam)
            scenes.append((*(part[room, order] for part in per_view), group.intrinsics[room]))
        images, depth, world_from_cam, intrinsics = (torch.stack(parts) for parts in zip(*scenes, strict=True))
        jittered = photometric_jitter(images.flatten(0, 1).float() / 255, generator).view_as(images)
        return normalised(jittered, depth.float(), world_from_cam, intrinsics, config.views - config.query_views)

    def _render(self, index: int) -> _Group:
        config = self.config
        generator = _generator(self.device, config.seed, index, stream=2)
        first = (config.seed * 100_003 + index * config.group_rooms) % (HELD_OUT_SEED - config.group_rooms)
        rooms = make_rooms(range(first, first + config.group_rooms), self.device)
        step = (index - config.pool_groups + 1) * config.steps_per_group
        span = min(1.0, max(0.0, step / max(1, config.wide_after)))
        world_from_cam = training_views(rooms, config.views, generator, span).float()
        toured = torch.rand(config.group_rooms, generator=generator, device=self.device) < config.tours * span
        for room in toured.nonzero().flatten().tolist():
            world_from_cam[room] = tour(rooms.select(slice(room, room + 1)), config.views, generator).float()
        intrinsics = random_intrinsics(config.group_rooms, config.height, config.width, generator)
        intrinsics = intrinsics.float().to(self.device)
        views = render(rooms, world_from_cam, intrinsics, config.height, config.width)
        images = (views.images * 255).round().to(torch.uint8)
        return _Group(images, views.depth.half(), world_from_cam, intrinsics)


def normalised(images: Tensor, depth: Tensor, world_from_cam: Tensor, intrinsics: Tensor, map_views: int) -> SceneBatch:
    """Express a batch of metric scenes in the first view's frame and in units of its points' mean distance."""
    cam_from_first = se3_inverse(world_from_cam) @ world_from_cam[:, :1]
    sparse = depth[:, :map_views, ::_STRIDE, ::_STRIDE]
    coarse = torch.cat([intrinsics[:, :2] / _STRIDE, intrinsics[:, 2:]], dim=1)
    points = unproject(sparse, coarse[:, None]).flatten(2, 3)  # (B, V, N, 3) camera frames
    first_from_cam = se3_inverse(cam_from_first[:, :map_views])
    in_first = points @ first_from_cam[..., :3, :3].transpose(-1, -2) + first_from_cam[..., None, :3, 3]
    scale = torch.linalg.vector_norm(in_first, dim=-1).mean((1, 2)).clamp(1e-6, 1e6)
    cam_from_first = cam_from_first.clone()
    cam_from_first[..., :3, 3] /= scale[:, None, None]
    return SceneBatch(images, depth / scale[:, None, None, None], cam_from_first, intrinsics)


def _generator(device: torch.device, seed: int, index: int, stream: int) -> torch.Generator:
    return torch.Generator(device).manual_seed((seed * 3 + stream) * 1_000_000_007 + index)
