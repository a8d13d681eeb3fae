"""Camera poses and intrinsics for training: small groups of views that overlap and move in every
direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.room import RoomBatch

Draw = Callable[..., Tensor]
"""Uniform random numbers in [0, 1) of a given shape, on the rooms' device."""
CLEARANCE = 0.25  # metres between a camera and any surface
_TRIALS = 12  # groups of offsets drawn per room, of which the freest is taken
_SPOTS = 64  # points tried per room


def random_intrinsics(batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Intrinsics (batch, 3, 3) float64 of cameras 45 to 110 degrees wide, almost square pixels.

    The principal point is (width / 2, height / 2), which is what the network's nine-number encoding
    implies.
    """
    draw = torch.rand(2, batch, generator=generator, dtype=torch.float64, device=generator.device)
    focal = width / 2 / torch.tan(torch.deg2rad(45 + 65 * draw[0]) / 2)
    intrinsics = torch.zeros(batch, 3, 3, dtype=torch.float64, device=generator.device)
    intrinsics[:, 0, 0] = focal
    intrinsics[:, 1, 1] = focal * (0.98 + 0.04 * draw[1])
    intrinsics[:, 0, 2] = width / 2
    intrinsics[:, 1, 2] = height / 2
    intrinsics[:, 2, 2] = 1.0
    return intrinsics


@torch.no_grad()
def training_views(
    rooms: RoomBatch, views: int, generator: torch.Generator, span: float, roaming: float = 0.25
) -> Tensor:
    """world_from_cam (B, V, 4, 4) float64, on the rooms' device, of V views a room that see common
    surfaces.

    The median distance between cameras is D * exp(U(log .10, log .45)) with D = .7 x the distance
    to what is looked at; 40 % of the rooms get independent positions, 60 % sinusoids on three axes
    in order; half move alike on all axes, half mostly along one (lateral, vertical or forward);
    half of the views look at one point, the others turn away by up to 30 degrees, so 60 between
    views. `span` 0..1 narrows both: at 0 baselines end at .15 D and rotations at 8 degrees. In a
    fraction `roaming * span` of the rooms cameras stand anywhere in the room where they see the
    point. Cameras keep 0.25 m off all surfaces, if need be by shorter baselines. Raises InputError
    for span outside 0..1.
    """
    if not 0.0 <= span <= 1.0 or views < 1:
        raise InputError(
            f"training_views needs span within 0..1 and views >= 1, got span {span}, views {views}"
        )
    batch = len(rooms)
    device = rooms.device
    rand = drawing(generator, device)
    spots = free_points(rooms, _SPOTS, rand)  # (B, K, 3), free ones first
    anchor = spots[:, 0]
    target, distance = _gaze(rooms, anchor, rand)
    axes = look_at(anchor, target, _up(anchor))[:, :3, :3]

    ratio = torch.exp(math.log(0.10) + rand(batch) * (math.log(0.15 * 3.0**span) - math.log(0.10)))
    offsets = _offsets(batch, views, rand) * (0.7 * distance * ratio)[:, None, None, None]
    # (B, trials, V, 3)
    world = anchor[:, None, None] + (axes[:, None, None] * offsets[..., None, :]).sum(-1)
    free = (clearance(rooms, world.flatten(1, 2)) >= CLEARANCE).view(batch, _TRIALS, views)
    best = free.sum(-1).argmax(1)
    position = world[torch.arange(batch, device=device), best]
    position = pull_back(rooms, anchor[:, None].expand_as(position), position)

    roams = rand(batch) < roaming * span
    if roaming * span > 0:
        position = _roam(rooms, spots, target, distance, position, roams)
    return _orient(rooms, position, target, span, rand)


def seeded(device: torch.device, seed: int) -> torch.Generator:
    """A source of random numbers on a device; on the CPU for kinds of devices that have none of
    their own.
    """
    return torch.Generator(device if device.type in ("cpu", "cuda") else "cpu").manual_seed(seed)


def drawing(generator: torch.Generator, device: torch.device) -> Draw:
    """A source of random numbers that draws where the generator lives and delivers to `device`."""
    return lambda *shape: torch.rand(*shape, generator=generator, device=generator.device).to(
        device
    )


def _up(like: Tensor) -> Tensor:
    return torch.tensor([0.0, 0.0, 1.0], dtype=like.dtype, device=like.device)


def free_points(rooms: RoomBatch, count: int, rand: Draw) -> Tensor:
    """Points (B, count, 3) in the rooms, those with enough clearance first, in random order."""
    low = rooms.bounds[:, :1]
    high = rooms.bounds[:, 1:]
    points = low + 0.3 + rand(len(rooms), count, 3) * (high - low - 0.6)
    gap = clearance(rooms, points)
    # Free points keep the order in which they were drawn; the others follow by clearance.
    rank = torch.where(
        gap >= CLEARANCE + 0.05, 10.0 + torch.arange(count, 0, -1, device=rooms.device), gap
    )
    order = rank.argsort(dim=1, descending=True)
    return points.gather(1, order[..., None].expand_as(points))


def _gaze(rooms: RoomBatch, anchor: Tensor, rand: Draw) -> tuple[Tensor, Tensor]:
    """A surface point (B, 3) to look at from the anchor, 1.2 m away or more where there is one, and
    its distance.
    """
    yaw = rand(len(rooms), 8) * 2 * math.pi
    pitch = (rand(len(rooms), 8) + rand(len(rooms), 8) - 1.05) * 0.6
    heading = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=-1)
    reach = cast(rooms, anchor[:, None].expand_as(heading), heading)
    pick = torch.where(
        reach > 1.2, 10.0 + torch.arange(8, 0, -1, device=reach.device), reach
    ).argmax(1)
    index = torch.arange(len(rooms), device=reach.device)
    distance = reach[index, pick]
    return anchor + heading[index, pick] * distance[:, None], distance


def _offsets(batch: int, views: int, rand: Draw) -> Tensor:
    """Camera offsets (B, trials, V, 3) along right, down, forward with median pair distance 1."""
    shape = (batch, _TRIALS, 1, 3)
    time = torch.linspace(0, 1, views, device=rand(1).device)[:, None]
    waves = torch.sin(2 * math.pi * (time * (0.2 + 1.0 * rand(*shape)) + rand(*shape)))
    scattered = rand(batch, _TRIALS, views, 3) * 2 - 1
    offsets = torch.where(rand(batch, 1, 1, 1) < 0.4, scattered, waves)
    main = (rand(batch, 1, 1, 1) * 3).floor() == torch.arange(3, device=time.device)
    weights = torch.where(
        main, torch.ones_like(offsets[:, :1, :1]), 0.05 + 0.25 * rand(batch, 1, 1, 3)
    )
    offsets = torch.where(rand(batch, 1, 1, 1) < 0.5, offsets, offsets * weights)
    if views == 1:
        return offsets
    pairs = torch.triu_indices(views, views, 1, device=time.device)
    apart = torch.linalg.vector_norm(offsets[:, :, pairs[0]] - offsets[:, :, pairs[1]], dim=-1)
    return (offsets - offsets.mean(2, keepdim=True)) / apart.median(-1).values.clamp(min=1e-3)[
        ..., None, None
    ]


def pull_back(rooms: RoomBatch, safe: Tensor, wanted: Tensor) -> Tensor:
    """Points (B, V, 3) on the lines from safe (free) to wanted, as near to wanted as clearance
    allows.
    """
    fraction = torch.tensor([1.0, 0.85, 0.7, 0.5, 0.35, 0.2, 0.1, 0.0], device=wanted.device)
    line = safe[:, :, None] + fraction[:, None] * (wanted - safe)[:, :, None]  # (B, V, 8, 3)
    free = (clearance(rooms, line.flatten(1, 2)) >= CLEARANCE).view(line.shape[:3])
    free[..., -1] = True
    first = free.int().argmax(-1)
    return line.gather(2, first[..., None, None].expand(*first.shape, 1, 3)).squeeze(2)


def _roam(
    rooms: RoomBatch,
    spots: Tensor,
    target: Tensor,
    distance: Tensor,
    position: Tensor,
    roams: Tensor,
) -> Tensor:
    """Replace the positions of rooms that roam by free spots that see the target from a similar
    side.
    """
    views = position.shape[1]
    to_target = target[:, None] - spots
    away = torch.linalg.vector_norm(to_target, dim=-1)
    heading = to_target / away[..., None].clamp(min=1e-6)
    seen = cast(rooms, spots, heading) > 0.97 * away
    near = (away > 0.4 * distance[:, None]) & (away < 1.7 * distance[:, None]) & (away > 0.7)
    aside = (heading * heading[:, :1]).sum(-1) > math.cos(math.radians(50))
    good = seen & near & aside & (clearance(rooms, spots) >= CLEARANCE)
    order = good.int().argsort(dim=1, descending=True, stable=True)[:, :views]
    if order.shape[1] < views:
        return position
    chosen = spots.gather(1, order[..., None].expand(-1, -1, 3))
    use = roams & (good.sum(1) >= views)
    return torch.where(use[:, None, None], chosen, position)


def _orient(rooms: RoomBatch, position: Tensor, target: Tensor, span: float, rand: Draw) -> Tensor:
    """Poses (B, V, 4, 4) float64 at positions (B, V, 3): half look at the target, half turn away,
    all roll a little.
    """
    batch, views = position.shape[:2]
    # float64: exact rotations whatever TF32 or autocast are set to
    where = position.double()
    pose = look_at(where, target.double()[:, None].expand_as(where), _up(where))
    most = math.radians(8 + 22 * span) * rand(batch, 1, 1).sqrt()
    # pitch, yaw, roll
    rotation = (rand(batch, views, 3) * 2 - 1) * most * position.new_tensor([0.6, 1.0, 0.4])
    watching = rand(batch, views, 1) < 0.5
    rotation = torch.where(watching, rotation * position.new_tensor([0.0, 0.0, 0.5]), rotation)
    rotated = pose[..., :3, :3] @ rotation_from_axis_angle(rotation.double())
    # A camera that would face a wall from within arm's length looks at the target instead.
    blocked = cast(rooms, position, rotated[..., 2]) < 0.6
    pose[..., :3, :3] = torch.where(blocked[..., None, None], pose[..., :3, :3], rotated)
    return pose
