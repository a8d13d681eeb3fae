"""Validation on rooms never trained on: how well a network maps some views and localizes others."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse
from vggt3_ros.geometry.sim3 import Sim3, fit_poses
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.places import Planner, plan_corridor, plan_yard
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.sequence import room_sequence
from vggt3_ros.worlds.shadows import with_shadows
from vggt3_ros.worlds.viewpoints import random_intrinsics, seeded, training_views

FIRST_VALIDATION_SEED = 950_000
FIRST_TOUR_SEED = 960_000
FIRST_CORRIDOR_SEED = 970_000
FIRST_YARD_SEED = 980_000
MAP_VIEWS = 8
QUERY_VIEWS = 8
TOUR_MAP_VIEWS = 16


@dataclass(frozen=True, eq=False)
class ValidationRoom:
    """Views of one room; the first `map_views` are mapped, the others localized."""

    map_views: int
    prefix: str  # of the names of its figures
    images: Tensor  # (V, 3, H, W)
    depth: Tensor  # (V, H, W) metres
    world_from_cam: Tensor  # (V, 4, 4) float64 metres


@dataclass
class Cost:
    """Seconds that mapping rooms and localizing their queries took, and bytes of the largest
    memory.
    """

    map_s: float = 0.0
    query_s: float = 0.0
    memory_bytes: int = 0


def validation_rooms(config: TrainConfig, device: torch.device) -> list[ValidationRoom]:
    """The fixed validation set: windows of views of rooms, and half as many tours, windows of
    corridors and of yards.

    It is the same in every run of one image size on one kind of device.

    """
    count = config.validation_rooms
    half = (config.validation_rooms + 1) // 2
    return [
        *_windows("", FIRST_VALIDATION_SEED, count, plan_room, config, device),
        *(tour(FIRST_TOUR_SEED + i, (config.height, config.width), device) for i in range(half)),
        *_windows("corridor_", FIRST_CORRIDOR_SEED, half, plan_corridor, config, device),
        *_windows("yard_", FIRST_YARD_SEED, half, plan_yard, config, device),
    ]


def _windows(
    prefix: str, first: int, count: int, plan: Planner, config: TrainConfig, device: torch.device
) -> list[ValidationRoom]:
    generator = seeded(device, first)
    rooms = make_rooms(range(first, first + count), device, plan)
    if plan is not plan_room:
        rooms = with_shadows(rooms)
    world_from_cam = training_views(rooms, MAP_VIEWS + QUERY_VIEWS, generator, span=1.0)
    intrinsics = random_intrinsics(count, config.height, config.width, generator).float().to(device)
    views = render(rooms, world_from_cam.float(), intrinsics, config.height, config.width)
    parts = zip(views.images, views.depth, world_from_cam.double().cpu(), strict=True)
    return [ValidationRoom(MAP_VIEWS, prefix, *part) for part in parts]


def tour(
    seed: int, size_hw: tuple[int, int], device: torch.device, map_views: int = TOUR_MAP_VIEWS
) -> ValidationRoom:
    """What `vggt3 evaluate room:SEED` takes: a drive of 6 m is mapped, and queries stand beside
    it.
    """
    visit = room_sequence(seed, map_views, QUERY_VIEWS, *size_hw)
    images = torch.from_numpy(visit.images).to(device).permute(0, 3, 1, 2).float() / 255
    depth = torch.from_numpy(visit.depth).to(device)
    return ValidationRoom(map_views, "tour_", images, depth, visit.world_from_cam)


def validate(
    network: Vggt3,
    rooms: list[ValidationRoom],
    anchors: int | None = None,
    cost: Cost | None = None,
) -> dict[str, float]:
    """Medians over all views of all windows of rooms and, named `tour_*`, `corridor_*` and
    `yard_*`, of the others. anchors: as for Vggt3.map. cost: what it takes is added to it.

    Angles in degrees; ate and query positions in percent of the room's trajectory extent; depth as
    AbsRel after the median scale of the map. `nearest_*`: the pose of the most similar map image,
    which any network has to beat.
    """
    parts: dict[str, list[Tensor]] = {}
    cost = cost or Cost()
    for room in rooms:
        for name, values in _measure(network, room, anchors, cost).items():
            parts.setdefault(room.prefix + name, []).append(values.flatten().double().cpu())
    return {name: float(torch.cat(values).median()) for name, values in parts.items()}


def no_progress(figures: dict[str, float]) -> str | None:
    """Why a run should be given up that validates like this, None where it need not: rotations come
    first.
    """
    reached = figures["pair_rotation_deg"]
    still = figures["still_pair_rotation_deg"]
    if reached < still:
        return None
    return (
        f"rotations between views are off by {reached:.1f} degrees, and by {still:.1f} where"
        " nothing is estimated, so the run was stopped. Change rates, loss weights or data and"
        " start another one; this one is saved, and the same command goes on with it"
    )


def _measure(
    network: Vggt3, room: ValidationRoom, anchors: int | None, cost: Cost
) -> dict[str, Tensor]:
    mapped = room.map_views
    truth = room.world_from_cam[:mapped]
    positions = room.world_from_cam[:, :3, 3]
    extent = float((positions.amax(0) - positions.amin(0)).norm())
    begin = time.perf_counter()
    prediction, memory = network.map(room.images[:mapped], anchors=anchors)
    estimated = prediction.cameras.world_from_cam.cpu()
    cost.map_s += time.perf_counter() - begin
    cost.memory_bytes = max(cost.memory_bytes, memory.nbytes)
    i, j = torch.triu_indices(mapped, mapped, 1)
    relative = se3_inverse(estimated[i]) @ estimated[j]
    relative_truth = se3_inverse(truth[i]) @ truth[j]
    between = relative[:, :3, :3].transpose(-1, -2) @ relative_truth[:, :3, :3]
    cosine = torch.nn.functional.cosine_similarity(
        relative[:, :3, 3], relative_truth[:, :3, 3], dim=-1
    )
    try:
        metric_from_scene = fit_poses(estimated, truth)
    except InputError:  # the estimate does not move at all: put every camera at the mean position
        metric_from_scene = Sim3(1e-6, Sim3.identity().rotation, truth[:, :3, 3].mean(0))
    depth = prediction.depth.cpu()
    depth_truth = room.depth[:mapped].cpu()
    ratio = (depth_truth / depth).median()
    result = {
        "pair_rotation_deg": torch.rad2deg(rotation_angle(between)),
        "pair_direction_deg": torch.rad2deg(cosine.clamp(-1, 1).acos()),
        "still_pair_rotation_deg": torch.rad2deg(rotation_angle(relative_truth[:, :3, :3])),
        "ate_percent": 100 * _distance(metric_from_scene.poses(estimated), truth) / extent,
        "depth_abs_rel": ((depth * ratio - depth_truth).abs() / depth_truth).mean((1, 2)),
    }
    queries = room.world_from_cam[mapped:]
    located = []
    begin = time.perf_counter()
    for image in room.images[mapped:]:
        answer = network.query_undecoded(image[None], memory)
        located.append(answer.cameras.world_from_cam.cpu())
    cost.query_s += time.perf_counter() - begin
    result |= _errors("query", metric_from_scene.poses(torch.cat(located)), queries, extent)
    return result | _errors("nearest", truth[_most_similar(room.images, mapped)], queries, extent)


def _errors(name: str, estimated: Tensor, truth: Tensor, extent: float) -> dict[str, Tensor]:
    rotation = rotation_angle(estimated[:, :3, :3].transpose(-1, -2) @ truth[:, :3, :3])
    return {
        f"{name}_position_percent": 100 * _distance(estimated, truth) / extent,
        f"{name}_rotation_deg": torch.rad2deg(rotation),
    }


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a[:, :3, 3] - b[:, :3, 3], dim=-1)


def _most_similar(images: Tensor, mapped: int) -> Tensor:
    """For every query image the map image with the nearest grey thumbnail."""
    thumbnails = adaptive_avg_pool2d(images.mean(1, keepdim=True), (12, 16)).flatten(1)
    return torch.cdist(thumbnails[mapped:], thumbnails[:mapped]).argmin(1).cpu()
