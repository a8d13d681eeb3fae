"""Cameras that hardly move: one that turns on the spot, and a few that look away from what others
saw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.mapped_fraction import mapped_fractions
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.viewpoints import drawing, free_points, pull_back

_SPOTS = 128
_NOD = 0.1  # rad up and down
_APART = 0.25  # metres between neighbours of a group
_ANGLES = tuple(range(-180, 180, 20))  # degrees that are tried


@torch.no_grad()
def rotate_on_the_spot(
    room: RoomBatch, frames: int, generator: torch.Generator, wobble: float = 0.0
) -> Tensor:
    """world_from_cam (frames, 4, 4) float64 of a camera that turns once around, in even steps, and
    nods a little.

    `wobble`: rms metres by which it leaves its spot, anew for every frame. Raises InputError unless
    `room` is one room, frames >= 1 and wobble >= 0.
    """
    if len(room) != 1 or frames < 1 or not wobble >= 0:
        given = f"{len(room)} rooms, {frames} frames, wobble {wobble}"
        raise InputError(f"turn_on_the_spot needs one room, frames >= 1, wobble >= 0; got {given}")
    rand = drawing(generator, room.device)
    spots = free_points(room, _SPOTS, rand)[0]
    spot = spots[int(clearance(room, spots[None])[0].argmax())]
    drawn = torch.randn(frames, 3, generator=generator, device=generator.device).to(
        room.device
    ) / math.sqrt(3)
    position = pull_back(room, spot.expand(1, frames, 3), (spot + wobble * drawn)[None])[0]
    angle = 2 * math.pi * torch.arange(frames, device=room.device) / frames
    yaw = angle + 2 * math.pi * rand(1)
    pitch = _NOD * torch.sin(3 * angle)
    heading = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=-1)
    return look_at(position.double(), (position + heading).double(), _up(room))


@torch.no_grad()
def look_away(room: RoomBatch, mapped: Tensor, lens: Lens, frames: int, fraction: float) -> Tensor:
    """world_from_cam (frames, 4, 4) around the last of `mapped` (M, 4, 4), turned until about
    `fraction` of what they show was seen by those.

    The cameras stand a quarter of a metre apart in a row, and all look much the same way.
    """
    last = mapped[-1].to(room.device, torch.float64)
    tried = torch.stack([_row(room, last, math.radians(degrees), frames) for degrees in _ANGLES])
    seen = torch.tensor(mapped_fractions(room, mapped, tried.flatten(0, 1), lens)).view(
        len(_ANGLES), frames
    )
    return tried[int((seen.mean(1) - fraction).abs().argmin())]


def _row(room: RoomBatch, pose: Tensor, angle: float, frames: int) -> Tensor:
    """Poses (frames, 4, 4) in a row across the view of a pose that is turned by so many rad about
    the vertical.
    """
    about_z = rotation_from_axis_angle(
        torch.tensor([0.0, 0.0, angle], dtype=torch.float64, device=room.device)
    )
    poses = pose.repeat(frames, 1, 1)
    poses[:, :3, :3] = about_z @ pose[:3, :3]
    aside = _APART * (torch.arange(frames, device=room.device) - (frames - 1) / 2).double()
    wanted = pose[:3, 3] + aside[:, None] * poses[0, :3, 0]
    start = pose[:3, 3].expand(1, frames, 3)
    poses[:, :3, 3] = pull_back(room, start.float(), wanted[None].float())[0].double()
    return poses


def _up(room: RoomBatch) -> Tensor:
    return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=room.device)
