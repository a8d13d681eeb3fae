"""The exact surfaces of a room as points, which of them an eye sees, and what is solid."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from vggt3_ros.worlds.probe import cast
from vggt3_ros.worlds.room import RoomBatch

_TOUCHING = 0.001  # metres between surfaces that nothing fits between
_IN_SIGHT = 0.002  # metres before a point at which nothing hides it
_AT_A_TIME = 50_000  # points


@torch.no_grad()
def surface_points(room: RoomBatch, spacing: float, low: float, high: float) -> Tensor:
    """Points (N, 3) float64, metres, on every surface between two heights of a batch of one room,
    at most `spacing` apart; none where two things touch, or where one reaches into another or out
    of the shell.
    """
    points = []
    for number in range(int((room.half_sizes[0, :, 0] > 0).sum())):
        own = _on_primitive(room, number, spacing)
        own = own[(own[:, 2] >= low) & (own[:, 2] < high)]

        def is_open(part: Tensor, number: int = number) -> Tensor:
            gaps = _gaps(room, part)
            gaps[number] = torch.inf
            return gaps.amin(0) > _TOUCHING

        points.append(own[_in_parts(is_open, own)])
    return torch.cat(points).double()


@torch.no_grad()
def inside(room: RoomBatch, points: Tensor) -> Tensor:
    """Whether (N,) points (N, 3) lie in something solid, or outside the shell, of a batch of one
    room.
    """
    return _in_parts(lambda part: _gaps(room, part).amin(0) < 0, points)


@torch.no_grad()
def in_sight(room: RoomBatch, points: Tensor, eye: Tensor) -> Tensor:
    """Whether (N,) nothing lies between an eye (3,) and points (N, 3), on surfaces or in free
    space, of a batch of one room.
    """

    def is_free(part: Tensor) -> Tensor:
        ways = part - eye
        length = ways.norm(dim=1)
        met: Tensor = cast(room, eye.expand_as(part)[None], (ways / length[:, None])[None])[0]
        return met.double() > length - _IN_SIGHT

    return _in_parts(is_free, points)


def _in_parts(question: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Answers (N,) for points (N, 3), few at a time for the sake of memory."""
    answers = [question(part) for part in points.split(_AT_A_TIME)]
    return torch.cat(answers) if answers else torch.zeros(0, dtype=torch.bool)


def _gaps(room: RoomBatch, points: Tensor) -> Tensor:
    """Distances (P, N) in metres to the primitives, below 0 within them; of the shell, below 0
    outside.

    Exact within boxes, too small for rounded primitives of unlike half sizes; infinite for padding.
    """
    own = room.local_from_world[0].double()
    half = room.half_sizes[0].double()[..., None]
    local = own[..., :3] @ points.double().T + own[..., 3:]  # (P, 3, N)
    boxes = int(room.box_counts[0])
    beyond = (local.abs() - 1) * half
    gaps = beyond.amax(1)
    gaps[0] *= -1
    rounded = local[boxes:]
    flat = (rounded[:, :2].norm(dim=1) - 1) * half[boxes:, :2].amin(1)
    cylinder = torch.maximum(flat, beyond[boxes:, 2])
    ball = (rounded.norm(dim=1) - 1) * half[boxes:].amin(1)
    gaps[boxes:] = torch.where(room.sphere[0, boxes:, None] > 0, ball, cylinder)
    gaps[half[:, 0, 0] <= 0] = torch.inf
    return gaps


def _on_primitive(room: RoomBatch, number: int, spacing: float) -> Tensor:
    """Points (N, 3) on the surface of one primitive: lattices on the sides of a cube, brought to
    its shape, which moves none of them apart.
    """
    half = room.half_sizes[0, number].double()
    sides = []
    for axis, sign in product(range(3), (-1.0, 1.0)):
        others = [other for other in range(3) if other != axis]
        steps = [
            torch.linspace(-1, 1, int(2 * half[other] / spacing) + 2).double() for other in others
        ]
        flat = torch.cartesian_prod(*steps)
        side = torch.full((len(flat), 3), sign).double()
        side[:, others] = flat
        sides.append(side)
    local = torch.cat(sides)
    if bool(room.sphere[0, number] > 0):
        local = local / local.norm(dim=1, keepdim=True)
    elif number >= int(room.box_counts[0]):
        flat = local[:, :2]
        local[:, :2] = flat * (flat.abs().amax(1) / flat.norm(dim=1).clamp(min=1e-12))[:, None]
    turned = (local * half) @ room.rotations[0, number].double().T
    return turned + room.centres[0, number].double()
