"""A second drive through a mapped room: beside the path of the first one, with much the same in
view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.worlds.motion import pass_through
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.render import render_depth
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.sequence import seen_fraction
from vggt3_ros.worlds.viewpoints import CLEARANCE, Draw, drawing

_STEP = 0.35  # metres along the mapped path between waypoints of the route
_WORN = 0.3  # metres around the mapped path that count as seen
_ROTATIONS = 8  # of the gaze that are tried
# the camera that judges what was mapped
_HEIGHT = 48
_WIDTH = 64
_ANGLE = math.radians(70)


@torch.no_grad()
def unseen_route(
    room: RoomBatch, mapped: Tensor, frames: int, generator: torch.Generator, aside: float = 0.35
) -> Tensor:
    """world_from_cam (frames, 4, 4) float64 of a smooth drive about `aside` beside the path of
    `mapped` (M, 4, 4).

    It keeps 0.3 m or more from the mapped path, and CLEARANCE at its waypoints, wherever the room
    allows both, and never leaves free space; where there is no room beside the path it follows the
    path itself. The gaze is that of the nearest mapped camera, slowly turned by up to 20 degrees,
    so that most of the view was mapped. Frames are evenly spaced along the route. Raises InputError
    unless `room` is one room, M >= 2, frames >= 1.
    """
    if len(room) != 1 or len(mapped) < 2 or frames < 1:
        given = f"{len(room)} rooms, {len(mapped)} mapped poses, {frames} frames"
        raise InputError(
            f"unseen_route needs one room, two mapped poses or more, and frames >= 1; got {given}"
        )
    rand = drawing(generator, room.device)
    mapped = mapped.to(room.device, torch.float64)
    base = _spaced(mapped, max(4, round(float(_travelled(mapped)[-1]) / _STEP) + 1))
    route = base.clone()
    route[:, :3, 3] = _beside(room, base[:, :3, 3], mapped[:, :3, 3], aside)
    return _spaced(_rotated(room, route, base, rand), frames)


def _spaced(poses: Tensor, count: int) -> Tensor:
    """Poses (count, 4, 4) at even distances along a smooth curve through poses (K, 4, 4)."""
    along = _travelled(poses)
    return pass_through(poses, along, float(along[-1]) * torch.linspace(0, 1, count).to(along))


def _travelled(poses: Tensor) -> Tensor:
    """Metres (K,) to each pose along the polyline; a standing camera counts a hair, so that they
    rise.
    """
    steps = torch.linalg.vector_norm(poses[1:, :3, 3] - poses[:-1, :3, 3], dim=-1).clamp(min=1e-6)
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])


def _beside(room: RoomBatch, base: Tensor, worn: Tensor, aside: float) -> Tensor:
    """Way points (K, 3) beside base (K, 3), away from worn (M, 3): the best chain of offsets (a
    Viterbi search).
    """
    offsets = _offsets(aside).to(base)
    places = base[:, None] + offsets  # (K, C, 3)
    count, choices = places.shape[:2]
    near = torch.cdist(places.flatten(0, 1), worn).amin(1).view(count, choices)
    gap = clearance(room, places.flatten(0, 1)[None]).view(count, choices).double()
    free = _free(room, base[:, None], places, CLEARANCE)
    cost = 4.0 * (_WORN + 0.02 - near).clamp(min=0) / _WORN + 0.5 * (near - aside).abs() / aside
    cost = cost + 0.5 * offsets[:, 2].abs() / aside + 1.0 * (gap < CLEARANCE + 0.05)
    cost = cost.masked_fill(~free, 1e6)
    best = cost[0]
    back = []
    for k in range(1, count):
        jump = (places[k][None] - places[k - 1][:, None]) - (base[k] - base[k - 1])  # (C, C, 3)
        step = 3.0 * torch.linalg.vector_norm(jump, dim=-1).square() / aside**2
        step = step + 50.0 * ~_free(room, places[k - 1][:, None], places[k][None], CLEARANCE - 0.05)
        value, source = (best[:, None] + step).min(0)
        best = value + cost[k]
        back.append(source)
    chosen = [int(best.argmin())]
    for source in reversed(back):
        chosen.append(int(source[chosen[-1]]))
    return places[
        torch.arange(count, device=base.device), torch.tensor(chosen[::-1], device=base.device)
    ]


def _offsets(aside: float) -> Tensor:
    """Offsets (C, 3) from the path that are tried, none first: around it, at two distances and
    three heights.
    """
    angle = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    ring = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1) * aside
    rise = torch.tensor([0.0, 0.0, 0.6 * aside], dtype=torch.float64)
    return torch.cat(
        [
            torch.zeros(1, 3, dtype=torch.float64),
            ring,
            1.4 * ring,
            0.9 * ring + rise,
            0.9 * ring - rise,
        ]
    )


def _free(room: RoomBatch, start: Tensor, end: Tensor, margin: float) -> Tensor:
    """Whether the lines from start to end (broadcast to (A, B, 3)) keep `margin` off all surfaces:
    bool (A, B).
    """
    fraction = torch.linspace(0, 1, 6, dtype=end.dtype, device=end.device)[:, None, None, None]
    line = start + fraction * (end - start)  # (6, A, B, 3)
    return (clearance(room, line.flatten(0, 2)[None]).view(line.shape[:3]) >= margin - 1e-4).all(0)


def _rotated(room: RoomBatch, route: Tensor, base: Tensor, rand: Draw) -> Tensor:
    """The route (K, 4, 4) with its gaze swaying: of several rotations the one that shows most of
    what base does.
    """
    focal = _WIDTH / 2 / math.tan(_ANGLE / 2)
    intrinsics = intrinsics_matrix(focal, focal, _WIDTH / 2, _HEIGHT / 2).to(room.device)
    depth = render_depth(room, base[None], intrinsics, _HEIGHT, _WIDTH)[0]
    time = torch.linspace(0, 2 * math.pi, len(route), dtype=torch.float64, device=route.device)
    time = time[:, None]
    best = route
    most = -math.inf
    for _ in range(_ROTATIONS):
        phase = (2 * math.pi * rand(3)).double()
        pace = (0.8 + 0.7 * rand(3)).double()
        # pitch, yaw, roll: 15 degrees
        sway = torch.sin(pace * time + phase) * time.new_tensor([0.08, 0.24, 0.05])
        poses = route.clone()
        poses[:, :3, :3] = route[:, :3, :3] @ rotation_from_axis_angle(sway)
        seen = seen_fraction(room, poses, base, depth, intrinsics)
        blocked = cast(room, poses[None, :, :3, 3], poses[None, :, :3, 2])[0] < 0.5
        score = float(seen.mean() + seen.min() - blocked.double().mean())
        if score > most:
            best = poses
            most = score
    return best
