"""A recorded visit of a held-out room or other place: a mapped path of several metres and queries
that left it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix, project
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle, se3_inverse, transform_points
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.lookalike import make_lookalike
from vggt3_ros.worlds.places import Planner
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.render import render, render_images
from vggt3_ros.worlds.room import MAX_SEED, RoomBatch, make_rooms
from vggt3_ros.worlds.textures import HELD_OUT_SEED
from vggt3_ros.worlds.trajectories import drive
from vggt3_ros.worlds.viewpoints import CLEARANCE, Draw, drawing, free_points

_CANDIDATES = 48  # tried for every query frame
_OFF_PATH = 0.3  # metres between a query and every mapped camera
_ELSEWHERE = 768  # views tried, when some are wanted that show nothing of the map
_VISITS = 1_000_003  # between the seeds of visits
_SEEN = 0.5  # fraction of a query's view that some mapped frame shows


@dataclass(frozen=True)
class RoomSequence:
    """N = map frames, then query frames; seed is that of the room, with the offset of small seeds
    added.

    images (N, H, W, 3) uint8 RGB; world_from_cam (N, 4, 4) and intrinsics (3, 3) float64, metres
    and pixels; depth (N, H, W) float32 z-depth in metres; map_indices, query_indices int64 into N.
    """

    seed: int
    images: NDArray[np.uint8]
    world_from_cam: Tensor
    intrinsics: Tensor
    depth: NDArray[np.float32]
    map_indices: NDArray[np.int64]
    query_indices: NDArray[np.int64]


@torch.no_grad()
def room_sequence(
    seed: int,
    map_frames: int = 16,
    query_frames: int = 16,
    height: int = 240,
    width: int = 320,
    length: float = 6.0,
    painted_like: int | None = None,
    device: torch.device | str = "cpu",
    plan: Planner = plan_room,
) -> RoomSequence:
    """Render a sequence in room `seed`; seeds below 900000 are counted from there (room 3 is room
    900003, with the same path and camera).

    `painted_like` is the seed of a room whose textures and colours this one wears (see lookalike);
    `plan` plans other places than rooms.

    Mapped frames lie along a drive of `length` metres. Queries stand 0.3 m or more from every
    mapped camera, look elsewhere, but at least half of their view was mapped wherever the room
    offers such a place. Images are supersampled 2 x 2. Raises InputError for frame counts below 1
    and for seeds that make_rooms refuses.
    """
    if map_frames < 1 or query_frames < 0:
        raise InputError(
            f"a sequence needs map_frames >= 1, query_frames >= 0; got {map_frames}, {query_frames}"
        )
    seed = held_out_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    if painted_like is None:
        room = make_rooms([seed], device, plan)
    else:
        room = make_lookalike(seed, held_out_seed(painted_like), device, plan)
    rand = drawing(generator, room.device)
    focal = width / 2 / math.tan(math.radians(60 + 25 * float(rand(1))) / 2)
    intrinsics = intrinsics_matrix(focal, focal, width / 2, height / 2).to(room.device)
    mapped = drive(room, map_frames, generator, length)
    views = render(room, mapped[None], intrinsics, height, width, supersample=2)
    poses = mapped
    images = views.images[0]
    depth = views.depth[0]
    if query_frames:
        queries = _queries(room, mapped, views.depth[0], intrinsics, query_frames, rand)
        seen = render(room, queries[None], intrinsics, height, width, supersample=2)
        poses = torch.cat([mapped, queries])
        images = torch.cat([images, seen.images[0]])
        depth = torch.cat([depth, seen.depth[0]])
    numbers = np.arange(map_frames + query_frames)
    return RoomSequence(
        seed,
        _bytes(images),
        poses.cpu(),
        intrinsics.cpu(),
        depth.cpu().contiguous().numpy(),
        numbers[:map_frames],
        numbers[map_frames:],
    )


@torch.no_grad()
def revisit(
    seed: int,
    mapped: Tensor,
    depth: Tensor,
    intrinsics: Tensor,
    frames: int,
    number: int,
    plan: Planner = plan_room,
) -> tuple[NDArray[np.uint8], Tensor]:
    """Images (frames, H, W, 3) and world_from_cam (frames, 4, 4) of another visit to the place
    `seed`, as `plan` has it now: beside the mapped path, as queries are.

    mapped, depth, intrinsics: as of unmapped_views. number: tells visits apart; each has views of
    its own. Raises InputError without any frames, and for seeds that make_rooms refuses.
    """
    if frames < 1 or number < 0:
        raise InputError(
            f"a visit needs 1 frame or more, and a number from 0, got {frames} and {number}"
        )
    seed = held_out_seed(seed)
    room = make_rooms([seed], plan=plan)
    generator = torch.Generator().manual_seed((seed + _VISITS * (number + 1)) % MAX_SEED)
    rand = drawing(generator, room.device)
    poses = _queries(room, mapped, depth, intrinsics, frames, rand)
    height, width = depth.shape[-2:]
    seen = render(room, poses[None], intrinsics, height, width, supersample=2)
    return _bytes(seen.images[0]), poses


def held_out_seed(seed: int) -> int:
    """The seed of the room that sequences mean by `seed`. Raises InputError beyond 0 to
    MAX_SEED.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed of a room is a whole number from 0 to {MAX_SEED}, got {seed}")
    return seed if seed >= HELD_OUT_SEED else seed + HELD_OUT_SEED


@torch.no_grad()
def unmapped_views(
    seed: int,
    mapped: Tensor,
    depth: Tensor,
    intrinsics: Tensor,
    count: int,
    plan: Planner = plan_room,
) -> tuple[NDArray[np.uint8], Tensor]:
    """Images (n, H, W, 3) and world_from_cam (n, 4, 4) from the place `seed` of `plan`, at most
    `count`: of what no map frame shows.

    mapped (M, 4, 4) are the map frames, depth (M, H, W) what they see, intrinsics (3, 3) the camera
    of both. A small room that was seen all around has few such views or none. Raises InputError for
    seeds that make_rooms refuses.
    """
    seed = held_out_seed(seed)
    room = make_rooms([seed], plan=plan)
    rand = drawing(torch.Generator().manual_seed(seed), room.device)
    position = free_points(room, _ELSEWHERE, rand)[0]
    yaw = 2 * math.pi * rand(_ELSEWHERE)
    pitch = 0.6 * (rand(_ELSEWHERE) - 0.5)
    heading = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    poses = look_at(position.double(), (position + heading).double(), up)
    free = (clearance(room, position[None])[0] >= CLEARANCE) & (
        cast(room, position[None], heading[None])[0] > 0.6
    )
    chosen = poses[free & (seen_fraction(room, poses, mapped, depth, intrinsics) == 0)][:count]
    height, width = depth.shape[-2:]
    if len(chosen) == 0:
        return np.empty((0, height, width, 3), np.uint8), chosen
    return _bytes(
        render_images(room, chosen[None], intrinsics, height, width, supersample=2)[0]
    ), chosen


def _bytes(images: Tensor) -> NDArray[np.uint8]:
    """(N, 3, H, W) in [0, 1] as (N, H, W, 3) uint8."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()


def _queries(
    room: RoomBatch, mapped: Tensor, depth: Tensor, intrinsics: Tensor, count: int, rand: Draw
) -> Tensor:
    """Query poses (count, 4, 4): of many displaced and turned copies of mapped frames, one that
    suits best each.
    """
    total = count * _CANDIDATES
    along = torch.linspace(0, len(mapped) - 1e-3, count, device=mapped.device)[:, None]
    base = along + 1.5 * rand(count, _CANDIDATES) - 0.75
    base_index = base.floor().long().clamp(0, len(mapped) - 1).flatten()
    pose = mapped[base_index]  # (total, 4, 4)
    centre = pose[:, :3, 3]
    forward = pose[:, :3, 2]
    angle = 2 * math.pi * rand(total)
    reach = 0.35 + 0.65 * rand(total)
    # Sideways and a bit up or down: across the gaze rather than along it.
    shift = torch.stack(
        [angle.cos() * reach, 0.6 * angle.sin() * reach, 0.3 * (rand(total) - 0.5)], dim=-1
    ).double()
    position = centre + (pose[:, :3, :3] @ shift[..., None]).squeeze(-1)
    distance = cast(room, centre[None], forward[None])[0].double()
    target = centre + forward * distance[:, None]
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=mapped.device)
    rotation = (
        (rand(total, 3) * 2 - 1) * torch.tensor([0.2, 0.45, 0.12], device=mapped.device)
    ).double()
    looking = look_at(position, target, up)
    looking[:, :3, :3] = looking[:, :3, :3] @ rotation_from_axis_angle(rotation)

    free = clearance(room, position[None])[0] >= CLEARANCE
    off_path = torch.cdist(position, mapped[:, :3, 3]).amin(1) >= _OFF_PATH
    line = position - centre
    # no wall between the mapped place and the query
    clear = cast(room, centre[None], line[None])[0] > 1.0
    seen = seen_fraction(room, looking, mapped, depth, intrinsics)
    score = 4.0 * free + 2.0 * clear + 1.0 * off_path + seen.clamp(max=_SEEN)
    best = (
        score.view(count, _CANDIDATES).argmax(1)
        + torch.arange(count, device=mapped.device) * _CANDIDATES
    )
    chosen = looking[best]
    lost = ~(free & clear)[best]
    chosen[lost] = pose[best[lost]]  # no free place nearby at all: stay on the path
    return chosen


def seen_fraction(
    room: RoomBatch, poses: Tensor, mapped: Tensor, depth: Tensor, intrinsics: Tensor
) -> Tensor:
    """Fraction (N,) of 5 x 5 rays of each pose that end on a surface which some mapped frame
    shows.
    """
    height, width = depth.shape[-2:]
    grid = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64, device=poses.device)
    v, u = torch.meshgrid(grid * height, grid * width, indexing="ij")
    pixels = torch.stack([u.flatten(), v.flatten(), torch.ones_like(u).flatten()], dim=-1)
    # (N, 25, 3)
    rays = pixels @ torch.linalg.inv(intrinsics).t() @ poses[:, :3, :3].transpose(1, 2)
    origins = poses[:, None, :3, 3].expand_as(rays)
    points = origins + rays * cast(room, origins.reshape(1, -1, 3), rays.reshape(1, -1, 3)).view(
        len(poses), -1, 1
    )
    in_map = transform_points(
        se3_inverse(mapped), points.reshape(1, -1, 3).expand(len(mapped), -1, -1)
    )
    place, z = project(in_map, intrinsics)  # (M, N * 25, 2)
    column = place[..., 0].nan_to_num().round()
    row = place[..., 1].nan_to_num().round()
    inside = (z > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
    found = depth.flatten(1).gather(1, index)
    seen = (inside & ((found / z - 1).abs() < 0.04)).any(0)
    return seen.view(len(poses), -1).double().mean(1)
