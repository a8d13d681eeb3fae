"""Robot-like drives through a room: a smooth free path of several metres, a gaze that wanders over open space.

`drive` is the path itself, `tour` a few views of it and beside it, to train on.
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
    """world_from_cam (frames, 4, 4) float64 of a path through one room, evenly spaced along `length` metres.

    The path turns at random in all three directions while the gaze follows open space, so motion relative to the
    camera is forward, lateral and vertical alike. Cameras keep 0.25 m off all surfaces; a cramped room gives a
    shorter path. Raises InputError unless `room` is one room, frames >= 1 and length > 0.
    """
    if len(room) != 1 or frames < 1 or not length > 0:
        raise InputError(f"drive needs one room, frames >= 1, length > 0; got {len(room)} rooms, {frames}, {length}")
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


@torch.no_grad()
def tour(
    room: RoomBatch, views: int, generator: torch.Generator, shortest: float = 1.0, longest: float = 6.0
) -> Tensor:
    """world_from_cam (views, 4, 4) float64: stations of a drive of `shortest` to `longest` metres, half of them aside.

    A view of that half stands up to 0.5 m beside the path where the room allows it, and looks up to 20 degrees
    elsewhere: it was not on the drive, but most of what it shows was seen from there. Raises InputError as `drive`.
    """
    rand = drawing(generator, room.device)
    pose = drive(room, views, generator, shortest + (longest - shortest) * float(rand(1)))
    aside = (rand(views, 1) < 0.5).double()
    shift = (rand(views, 3) * 2 - 1).double() * torch.tensor([0.5, 0.3, 0.3], device=pose.device).double() * aside
    wanted = pose[:, :3, 3] + (pose[:, :3, :3] @ shift[..., None]).squeeze(-1)
    pose[:, :3, 3] = pull_back(room, pose[None, :, :3, 3], wanted[None])[0]
    turn = (rand(views, 3) * 2 - 1).double() * torch.tensor([0.2, 0.35, 0.1], device=pose.device).double() * aside
    pose[:, :3, :3] = pose[:, :3, :3] @ rotation_from_axis_angle(turn)
    return pose


def _path(room: RoomBatch, length: float, rand: Draw) -> Tensor:
    """A smooth free path (N, 3) sampled every few centimetres: way points in mutual reach, then smoothed corners."""
    spots = free_points(room, _SPOTS, rand)[0]
    spots = spots[: max(1, int((clearance(room, spots[None])[0] >= CLEARANCE + 0.05).sum()))]
    line, here, done = [spots[:1]], spots[0], 0.0
    visited = [here]
    for _ in range(32):
        if done >= length:
            break
        step = spots - here
        far = torch.linalg.vector_norm(step, dim=-1)
        # New ground first (distance from all way points so far, over the floor), then a change of height.
        fresh = torch.cdist(spots[:, :2], torch.stack(visited)[:, :2]).amin(1).clamp(max=1.5)
        height = (step[:, 2].abs() / far.clamp(min=1e-3)).clamp(max=0.5)
        suitable = (far > 0.5) & (far < 3.0)
        share = torch.linspace(0, 1, 16, device=spots.device)[:, None]
        between = here + share[:, None] * step  # (16, K, 3)
        free = (clearance(room, between.flatten(0, 1)[None]).view(16, -1) >= CLEARANCE + 0.02).all(0)
        score = 0.1 + suitable * (fresh + height + 0.6 * rand(len(spots)))
        pick = int((score * free).argmax())
        count = max(2, int(far[pick] / _STEP))
        if not bool(free[pick]) or float(far[pick]) < 0.2:
            break
        line.append(here + torch.linspace(0, 1, count + 1, device=spots.device)[1:, None] * step[pick])
        visited.append(spots[pick])
        here, done = spots[pick], done + float(far[pick])
    polyline = torch.cat(line)[: max(2, int(length / _STEP))]
    return pull_back(room, polyline[None], _smooth(polyline, 9)[None])[0]


def _smooth(values: Tensor, reach: int) -> Tensor:
    """Moving average over 2 * reach + 1 samples (N, C), applied twice; the ends are held."""
    out = values.t()[None]
    for _ in range(2):
        out = torch.nn.functional.pad(out, (reach, reach), mode="replicate")
        out = torch.nn.functional.avg_pool1d(out, 2 * reach + 1, stride=1)
    return out[0].t()


def _gaze(room: RoomBatch, position: Tensor, rand: Draw) -> Tensor:
    """Yaw (V,) of every frame: open views preferred, drawn to a wandering wish, without jumps (a Viterbi search)."""
    frames = len(position)
    yaws = torch.arange(_YAWS, device=position.device) * (2 * math.pi / _YAWS)
    rays = torch.stack([yaws.cos(), yaws.sin(), torch.zeros_like(yaws)], dim=-1).expand(frames, -1, -1)
    reach = cast(room, position[:, None].expand_as(rays).reshape(1, -1, 3), rays.reshape(1, -1, 3)).view(frames, _YAWS)
    openness = reach.clamp(max=2.5)
    openness = torch.minimum(openness, 0.5 * (openness.roll(2, 1) + openness.roll(-2, 1)))
    time = torch.linspace(0, 1, frames, device=position.device)[:, None]
    wave = torch.sin(2 * math.pi * ((0.4 + 0.6 * rand(1)) * time + rand(1)))
    wish = 2 * math.pi * rand(1) + (0.7 + 0.9 * rand(1)) * wave
    gain = openness + 2.5 * torch.cos(yaws - wish)
    turn = torch.remainder(yaws[:, None] - yaws + math.pi, 2 * math.pi) - math.pi
    cost = (turn / math.radians(25)).square()
    best, back = gain[0], []
    for frame in range(1, frames):
        value, source = (best[:, None] - cost).max(0)
        best = value + gain[frame]
        back.append(source)
    chosen = [int(best.argmax())]
    for source in reversed(back):
        chosen.append(int(source[chosen[-1]]))
    yaw = yaws[torch.tensor(chosen[::-1], device=yaws.device)]
    steps = torch.remainder(yaw.diff() + math.pi, 2 * math.pi) - math.pi
    unwrapped = torch.cat([yaw[:1], yaw[0] + steps.cumsum(0)])
    return _smooth(unwrapped[:, None], 1)[:, 0]
