"""Where batches come from: a pool of rendered rooms that is renewed as training goes on, and
recordings.

Every batch is a function of seed, step, rank and how far the run is. Group g of the pool holds
`group_rooms` rooms that nobody has seen before; `renewals` of them come in the course of a run,
evenly, and the pool holds the `pool_groups` newest. A resumed run renders those again and goes on
exactly as the first would have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.crop import cropped
from vggt3_ros.training.recordings import Recording, draw_window
from vggt3_ros.training.scenes import SceneBatch, Views, normalised, sent
from vggt3_ros.training.step_shape import StepShape, step_shape
from vggt3_ros.training.stopwatch import Stopwatch
from vggt3_ros.worlds.jitter import lens_and_shutter, photometric_jitter
from vggt3_ros.worlds.places import place_planner
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.shadows import with_shadows
from vggt3_ros.worlds.textures import HELD_OUT_SEED
from vggt3_ros.worlds.tours import tours
from vggt3_ros.worlds.viewpoints import drawing, random_intrinsics, seeded, training_views


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
            raise InputError(
                f"training config: real is {config.real}, but there are no folders to take scenes"
                " from"
            )
        self.config = config
        self.device = device
        self.recordings = recordings
        self.rank = rank
        self.world = world
        self.plan = place_planner(config.corridors, config.yards)
        self.rendering = Stopwatch(device)
        self.rendered = 0  # views so far
        self.groups: dict[int, int] = {}  # by place in the tensors below, the group that is there
        self.images, self.depth, self.world_from_cam, self.intrinsics = (
            torch.empty(0) for _ in range(4)
        )

    def batch(self, step: int, done: float) -> SceneBatch:
        """The batch of a step: rooms of the pool and windows of recordings, cropped, photometric
        jitter per image.

        `done` is the fraction of the run, 0 to 1, that is behind it.
        """
        config = self.config
        shape = step_shape(config, step)
        own = step * self.world + self.rank
        # no waiting for the device
        choice = _generator(torch.device("cpu"), config.seed, own, stream=1)
        real = 0
        if config.real > 0:
            real = int((torch.rand(shape.scenes, generator=choice) < config.real).sum())
        scenes = (
            self._rooms(done, shape, shape.scenes - real, choice) if real < shape.scenes else []
        )
        scenes += [self._window(done, shape, choice) for _ in range(real)]
        images = torch.stack([sent(scene.images, self.device) for scene in scenes])
        noise = _generator(self.device, config.seed, own, stream=0)
        seen = lens_and_shutter(images.flatten(0, 1).float() / 255, noise)
        return normalised(
            photometric_jitter(seen, noise).view(images.shape),
            scenes,
            shape.views - config.query_views,
        )

    def _rooms(
        self, done: float, shape: StepShape, count: int, choice: torch.Generator
    ) -> list[Views]:
        config = self.config
        newest = config.pool_groups - 1 + int(done * config.renewals)
        for index in range(newest - config.pool_groups + 1, newest + 1):
            if self.groups.get(index % config.pool_groups) != index:
                with self.rendering:
                    self._render(index)
                self.rendered += config.group_rooms * config.views
        room = torch.randperm(config.pool_groups * config.group_rooms, generator=choice)[:count]
        order = torch.rand(count, config.views, generator=choice).argsort(1)[:, : shape.views]
        chosen = (sent(room[:, None], self.device), sent(order, self.device))
        images, depth, world_from_cam = (
            part[chosen] for part in (self.images, self.depth, self.world_from_cam)
        )
        whole = zip(images, depth, world_from_cam, self.intrinsics[room], strict=True)
        return [self._cropped(Views(*parts, synthetic=True), shape, choice) for parts in whole]

    def _window(self, done: float, shape: StepShape, choice: torch.Generator) -> Views:
        draw = torch.randint(2**62, (2,), generator=choice).tolist()
        own = torch.Generator().manual_seed(draw[1])
        recording = self.recordings[draw[0] % len(self.recordings)]
        return self._cropped(draw_window(recording, shape.views, self._span(done), own), shape, own)

    def _span(self, done: float) -> float:
        """How far view windows have grown from narrow (0) to wide (1)."""
        return min(1.0, done / self.config.wide_after) if self.config.wide_after > 0 else 1.0

    def _cropped(self, views: Views, shape: StepShape, choice: torch.Generator) -> Views:
        fraction = 1.0
        if self.config.crop < 1:
            fraction = self.config.crop + (1 - self.config.crop) * float(
                torch.rand(1, generator=choice)
            )
        return cropped(views, (shape.height, shape.width), fraction)

    def _render(self, index: int) -> None:
        """Put group `index` where the group was that it replaces."""
        config = self.config
        own = index * self.world + self.rank
        generator = _generator(self.device, config.seed, own, stream=2)
        rand = drawing(generator, self.device)
        first = (config.seed * 100_003 + own * config.group_rooms) % (
            HELD_OUT_SEED - config.group_rooms
        )
        rooms = make_rooms(range(first, first + config.group_rooms), self.device, self.plan)
        span = self._span(max(0, index - config.pool_groups + 1) / max(1, config.renewals))
        world_from_cam = training_views(rooms, config.views, generator, span)
        if config.tours * span > 0:
            toured = rand(len(rooms), 1, 1, 1) < config.tours * span
            world_from_cam = torch.where(
                toured, tours(rooms, config.views, generator), world_from_cam
            )
        if config.shadows > 0:
            rooms = with_shadows(rooms, rand(len(rooms)) < config.shadows)
        intrinsics = random_intrinsics(len(rooms), config.height, config.width, generator)
        views = render(rooms, world_from_cam, intrinsics, config.height, config.width)
        place = index % config.pool_groups
        self.groups[place] = index
        made = (
            (views.images * 255).round().to(torch.uint8),
            views.depth.half(),
            world_from_cam.float(),
            intrinsics.float().cpu(),  # cropping reads them
        )
        if len(self.images) == 0:
            room_count = config.pool_groups * config.group_rooms
            self.images, self.depth, self.world_from_cam, self.intrinsics = (
                part.new_empty(room_count, *part.shape[1:]) for part in made
            )
        rows = slice(place * config.group_rooms, (place + 1) * config.group_rooms)
        for kept, part in zip(
            (self.images, self.depth, self.world_from_cam, self.intrinsics), made, strict=True
        ):
            kept[rows] = part


def _generator(device: torch.device, seed: int, index: int, stream: int) -> torch.Generator:
    return seeded(device, (seed * 3 + stream) * 1_000_000_007 + index)
