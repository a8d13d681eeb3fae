"""Robot-like drives through a room: a smooth free path of several metres, a gaze that wanders over
open space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.viewpoints import CLEARANCE, Draw, drawing, free_points, pull_back

_SPOTS = 256
_STEP = 0.05  # metres between samples of the path
_YAWS = 36


@torch.no_grad()
def drive(room: RoomBatch, frames: int, generator: torch.Generator, length: float = 6.0) -> Tensor:
    """world_from_cam (frames, 4, 4) float64 of a path through one room, evenly spaced along
    `length` metres.

    The path turns at random in all three directions while the gaze follows open space, so motion
    relative to the camera is forward, lateral and vertical alike. Cameras keep 0.25 m off all
    surfaces; a cramped room gives a shorter path. Raises InputError unless `room` is one room,
    frames >= 1 and length > 0.
    """
    if len(room) != 1 or frames < 1 or not length > 0:
        raise InputError(
            f"drive needs one room, frames >= 1, length > 0; got {len(room)} rooms, {frames},"
            f" {length}"
        )
    rand = drawing(generator, room.device)
    path = _path(room, length, rand)  # (N, 3) dense
    index = torch.linspace(0, len(path) - 1, frames, device=path.device).round().long()
    position = path[index]
    yaw = _gaze(room, position, rand)
    phase = 2 * math.pi * rand(2)
    time = torch.linspace(0, 2 * math.pi, frames, device=path.device)
    pitch = 0.22 * torch.sin(1.3 * time + phase[0]) - 0.06
    heading = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], device=path.device)
    pose = look_at(position.double(), (position + heading).double(), up.double())
    roll = torch.zeros(frames, 3, dtype=torch.float64, device=path.device)
    roll[:, 2] = 0.06 * torch.sin(1.7 * time + phase[1])
    pose[:, :3, :3] = pose[:, :3, :3] @ rotation_from_axis_angle(roll)
    return pose


def _path(room: RoomBatch, length: float, rand: Draw) -> Tensor:
    """A smooth free path (N, 3) sampled every few centimetres: waypoints in mutual reach, then
    smoothed corners.
    """
    spots = free_points(room, _SPOTS, rand)[0]
    spots = spots[: max(1, int((clearance(room, spots[None])[0] >= CLEARANCE + 0.05).sum()))]
    line = [spots[:1]]
    here = spots[0]
    done = 0.0
    visited = [here]
    for _ in range(32):
        if done >= length:
            break
        step = spots - here
        far = torch.linalg.vector_norm(step, dim=-1)
        # New ground first (distance from all waypoints so far, over the floor), then a change of
        # height.
        fresh = torch.cdist(spots[:, :2], torch.stack(visited)[:, :2]).amin(1).clamp(max=1.5)
        height = (step[:, 2].abs() / far.clamp(min=1e-3)).clamp(max=0.5)
        suitable = (far > 0.5) & (far < 3.0)
        fraction = torch.linspace(0, 1, 16, device=spots.device)[:, None]
        between = here + fraction[:, None] * step  # (16, K, 3)
        free = (clearance(room, between.flatten(0, 1)[None]).view(16, -1) >= CLEARANCE + 0.02).all(
            0
        )
        score = 0.1 + suitable * (fresh + height + 0.6 * rand(len(spots)))
        pick = int((score * free).argmax())
        count = max(2, int(far[pick] / _STEP))
        if not bool(free[pick]) or float(far[pick]) < 0.2:
            break
        line.append(
            here + torch.linspace(0, 1, count + 1, device=spots.device)[1:, None] * step[pick]
        )
        visited.append(spots[pick])
        here = spots[pick]
        done = done + float(far[pick])
    polyline = torch.cat(line)[: max(2, int(length / _STEP))]
    return pull_back(room, polyline[None], smooth(polyline[None], 9))[0]


def smooth(values: Tensor, reach: int) -> Tensor:
    """Moving average over 2 * reach + 1 samples of (B, N, C), applied twice; the ends are held."""
    out = values.transpose(1, 2)
    for _ in range(2):
        out = torch.nn.functional.pad(out, (reach, reach), mode="replicate")
        out = torch.nn.functional.avg_pool1d(out, 2 * reach + 1, stride=1)
    return out.transpose(1, 2)


def _gaze(room: RoomBatch, position: Tensor, rand: Draw) -> Tensor:
    """Yaw (V,) of every frame: open views preferred, drawn to a wandering wish."""
    time = torch.linspace(0, 1, len(position), device=position.device)
    wave = torch.sin(2 * math.pi * ((0.4 + 0.6 * rand(1)) * time + rand(1)))
    wish = 2 * math.pi * rand(1) + (0.7 + 0.9 * rand(1)) * wave
    return follow_open_space(
        room, position[None], wish[None], torch.full((1,), 2.5, device=position.device)
    )[0]


def follow_open_space(rooms: RoomBatch, position: Tensor, wish: Tensor, firm: Tensor) -> Tensor:
    """Yaw (B, V) at positions (B, V, 3): open views near the wish (B, V), without jumps (a Viterbi
    search).

    firm (B,): how many metres of open space the wish is worth.
    """
    batch, frames = wish.shape
    yaws = torch.arange(_YAWS, device=position.device) * (2 * math.pi / _YAWS)
    rays = torch.stack([yaws.cos(), yaws.sin(), torch.zeros_like(yaws)], dim=-1).expand(
        batch, frames, -1, -1
    )
    reach = cast(rooms, position[:, :, None].expand_as(rays).flatten(1, 2), rays.flatten(1, 2))
    openness = reach.view(batch, frames, _YAWS).clamp(max=2.5)
    openness = torch.minimum(openness, 0.5 * (openness.roll(2, -1) + openness.roll(-2, -1)))
    gain = openness + firm[:, None, None] * torch.cos(yaws - wish[..., None])
    change = torch.remainder(yaws[:, None] - yaws + math.pi, 2 * math.pi) - math.pi
    cost = (change / math.radians(25)).square()
    best = gain[:, 0]
    back = []
    for frame in range(1, frames):
        value, source = (best[:, :, None] - cost).max(1)
        best = value + gain[:, frame]
        back.append(source)
    chosen = [best.argmax(1)]
    for source in reversed(back):
        chosen.append(source.gather(1, chosen[-1][:, None]).squeeze(1))
    yaw = yaws[torch.stack(chosen[::-1], 1)]
    steps = torch.remainder(yaw.diff() + math.pi, 2 * math.pi) - math.pi
    unwrapped = torch.cat([yaw[:, :1], yaw[:, :1] + steps.cumsum(1)], dim=1)
    return smooth(unwrapped[..., None], 1)[..., 0]
