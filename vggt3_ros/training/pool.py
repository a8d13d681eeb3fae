"""Where batches come from: a pool of rendered rooms that is renewed as training goes on, and recordings.

Every batch is a function of seed, step and rank. Group g of the pool holds `group_rooms` rooms that nobody has seen
before. At step t the pool holds the `pool_groups` newest of the groups 0 .. t / steps_per_group; a resumed run renders
those again and goes on exactly as the first would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.crop import cropped
from vggt3_ros.training.recordings import Recording, draw_window
from vggt3_ros.training.scenes import SceneBatch, Views, normalised
from vggt3_ros.training.step_shape import StepShape, step_shape
from vggt3_ros.worlds.jitter import photometric_jitter
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.textures import HELD_OUT_SEED
from vggt3_ros.worlds.trajectories import tour
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views


@dataclass(frozen=True, eq=False)
class _Group:
    images: Tensor  # (R, V, 3, H, W) uint8
    depth: Tensor  # (R, V, H, W) float16 metres
    world_from_cam: Tensor  # (R, V, 4, 4) float32 metres
    intrinsics: Tensor  # (R, 3, 3) float32


class ScenePool:
    """Scenes on the device that trains; each of `world` ranks has rooms and windows of its own."""

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        recordings: Sequence[Recording] = (),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.real > 0 and not recordings:
            raise InputError(f"training config: real is {config.real}, but there are no folders to take scenes from")
        self.config, self.device, self.recordings = config, device, recordings
        self.rank, self.world = rank, world
        self.groups: dict[int, _Group] = {}

    def batch(self, step: int) -> SceneBatch:
        """The batch of a step: rooms of the pool and windows of recordings, cropped, photometric jitter per image."""
        config = self.config
        shape = step_shape(config, step)
        generator = _generator(self.device, config.seed, step * self.world + self.rank, stream=1)
        real = 0
        if config.real > 0:
            real = int((torch.rand(shape.scenes, generator=generator, device=self.device) < config.real).sum())
        scenes = self._rooms(step, shape, shape.scenes - real, generator) if real < shape.scenes else []
        scenes += [self._window(step, shape, generator) for _ in range(real)]
        images = torch.stack([scene.images.to(self.device) for scene in scenes])
        jittered = photometric_jitter(images.flatten(0, 1).float() / 255, generator).view(images.shape)
        return normalised(jittered, scenes, shape.views - config.query_views)

    def _rooms(self, step: int, shape: StepShape, count: int, generator: torch.Generator) -> list[Views]:
        config = self.config
        newest = config.pool_groups - 1 + step // config.steps_per_group
        for index in range(newest - config.pool_groups + 1, newest + 1):
            if index not in self.groups:
                self.groups[index] = self._render(index)
        for index in [i for i in self.groups if i <= newest - config.pool_groups]:
            del self.groups[index]
        alive = sorted(self.groups)
        rooms = config.pool_groups * config.group_rooms
        picks = torch.randperm(rooms, generator=generator, device=self.device)[:count].tolist()
        scenes = []
        for pick in picks:
            group, room = self.groups[alive[pick // config.group_rooms]], pick % config.group_rooms
            order = torch.randperm(config.views, generator=generator, device=self.device)[: shape.views]
            images, depth, world_from_cam = (
                part[room, order] for part in (group.images, group.depth, group.world_from_cam)
            )
            views = Views(images, depth, world_from_cam, group.intrinsics[room], synthetic=True)
            scenes.append(self._cropped(views, shape, generator))
        return scenes

    def _window(self, step: int, shape: StepShape, generator: torch.Generator) -> Views:
        draw = torch.randint(2**62, (2,), generator=generator, device=self.device).tolist()
        own = torch.Generator().manual_seed(draw[1])  # windows are drawn on the CPU, whatever trains
        recording = self.recordings[draw[0] % len(self.recordings)]
        span = min(1.0, step / max(1, self.config.wide_after))
        return self._cropped(draw_window(recording, shape.views, span, own), shape, own)

    def _cropped(self, views: Views, shape: StepShape, generator: torch.Generator) -> Views:
        share = 1.0
        if self.config.crop < 1:
            draw = torch.rand(1, generator=generator, device=generator.device)
            share = self.config.crop + (1 - self.config.crop) * float(draw)
        return cropped(views, (shape.height, shape.width), share)

    def _render(self, index: int) -> _Group:
        config = self.config
        own = index * self.world + self.rank
        generator = _generator(self.device, config.seed, own, stream=2)
        first = (config.seed * 100_003 + own * config.group_rooms) % (HELD_OUT_SEED - config.group_rooms)
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


def _generator(device: torch.device, seed: int, index: int, stream: int) -> torch.Generator:
    return torch.Generator(device).manual_seed((seed * 3 + stream) * 1_000_000_007 + index)
