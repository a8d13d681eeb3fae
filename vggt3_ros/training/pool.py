"""Where batches come from: a pool of rendered rooms that is renewed as training goes on, and recordings.

Every batch is a function of seed, step and rank. Group g of the pool holds `group_rooms` rooms that nobody has seen
before. At step t the pool holds the `pool_groups` newest of the groups 0 .. t / steps_per_group; a resumed run renders
those again and goes on exactly as the first would have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.crop import cropped
from vggt3_ros.training.recordings import Recording, draw_window
from vggt3_ros.training.scenes import SceneBatch, Views, normalised
from vggt3_ros.training.step_shape import StepShape, step_shape
from vggt3_ros.worlds.jitter import lens_and_shutter, photometric_jitter
from vggt3_ros.worlds.places import place_planner
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.shadows import with_shadows
from vggt3_ros.worlds.textures import HELD_OUT_SEED
from vggt3_ros.worlds.tours import tours
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views


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
        self.plan = place_planner(config.corridors, config.yards)
        self.groups: dict[int, int] = {}  # by place in the tensors below, the group that is there
        self.images, self.depth, self.world_from_cam, self.intrinsics = (torch.empty(0) for _ in range(4))

    def batch(self, step: int) -> SceneBatch:
        """The batch of a step: rooms of the pool and windows of recordings, cropped, photometric jitter per image."""
        config = self.config
        shape = step_shape(config, step)
        own = step * self.world + self.rank
        choice = _generator(torch.device("cpu"), config.seed, own, stream=1)  # no waiting for the device
        real = 0
        if config.real > 0:
            real = int((torch.rand(shape.scenes, generator=choice) < config.real).sum())
        scenes = self._rooms(step, shape, shape.scenes - real, choice) if real < shape.scenes else []
        scenes += [self._window(step, shape, choice) for _ in range(real)]
        images = torch.stack([scene.images.to(self.device) for scene in scenes])
        noise = _generator(self.device, config.seed, own, stream=0)
        seen = lens_and_shutter(images.flatten(0, 1).float() / 255, noise)
        return normalised(photometric_jitter(seen, noise).view(images.shape), scenes, shape.views - config.query_views)

    def _rooms(self, step: int, shape: StepShape, count: int, choice: torch.Generator) -> list[Views]:
        config = self.config
        newest = config.pool_groups - 1 + step // config.steps_per_group
        for index in range(newest - config.pool_groups + 1, newest + 1):
            if self.groups.get(index % config.pool_groups) != index:
                self._render(index)
        room = torch.randperm(config.pool_groups * config.group_rooms, generator=choice)[:count]
        order = torch.rand(count, config.views, generator=choice).argsort(1)[:, : shape.views]
        room, order = room.to(self.device), order.to(self.device)
        images, depth, world_from_cam = (
            part[room[:, None], order] for part in (self.images, self.depth, self.world_from_cam)
        )
        whole = zip(images, depth, world_from_cam, self.intrinsics[room], strict=True)
        return [self._cropped(Views(*parts, synthetic=True), shape, choice) for parts in whole]

    def _window(self, step: int, shape: StepShape, choice: torch.Generator) -> Views:
        draw = torch.randint(2**62, (2,), generator=choice).tolist()
        own = torch.Generator().manual_seed(draw[1])
        recording = self.recordings[draw[0] % len(self.recordings)]
        span = min(1.0, step / max(1, self.config.wide_after))
        return self._cropped(draw_window(recording, shape.views, span, own), shape, own)

    def _cropped(self, views: Views, shape: StepShape, choice: torch.Generator) -> Views:
        share = 1.0
        if self.config.crop < 1:
            share = self.config.crop + (1 - self.config.crop) * float(torch.rand(1, generator=choice))
        return cropped(views, (shape.height, shape.width), share)

    def _render(self, index: int) -> None:
        """Put group `index` where the group was that it replaces."""
        config = self.config
        own = index * self.world + self.rank
        generator = _generator(self.device, config.seed, own, stream=2)
        first = (config.seed * 100_003 + own * config.group_rooms) % (HELD_OUT_SEED - config.group_rooms)
        rooms = make_rooms(range(first, first + config.group_rooms), self.device, self.plan)
        step = (index - config.pool_groups + 1) * config.steps_per_group
        span = min(1.0, max(0, step) / config.wide_after) if config.wide_after > 0 else 1.0
        world_from_cam = training_views(rooms, config.views, generator, span)
        if config.tours * span > 0:
            toured = torch.rand(len(rooms), 1, 1, 1, generator=generator, device=self.device) < config.tours * span
            world_from_cam = torch.where(toured, tours(rooms, config.views, generator), world_from_cam)
        if config.shadows > 0:
            shaded = torch.rand(len(rooms), generator=generator, device=self.device) < config.shadows
            rooms = with_shadows(rooms, shaded)
        intrinsics = random_intrinsics(len(rooms), config.height, config.width, generator)
        views = render(rooms, world_from_cam, intrinsics, config.height, config.width)
        place = index % config.pool_groups
        self.groups[place] = index
        made = (
            (views.images * 255).round().to(torch.uint8),
            views.depth.half(),
            world_from_cam.float(),
            intrinsics.float(),
        )
        if len(self.images) == 0:
            room_count = config.pool_groups * config.group_rooms
            self.images, self.depth, self.world_from_cam, self.intrinsics = (
                part.new_empty(room_count, *part.shape[1:], device=self.device) for part in made
            )
        rows = slice(place * config.group_rooms, (place + 1) * config.group_rooms)
        for kept, part in zip((self.images, self.depth, self.world_from_cam, self.intrinsics), made, strict=True):
            kept[rows] = part.to(self.device)


def _generator(device: torch.device, seed: int, index: int, stream: int) -> torch.Generator:
    return torch.Generator(device).manual_seed((seed * 3 + stream) * 1_000_000_007 + index)
