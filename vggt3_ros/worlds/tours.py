"""Journeys of several metres to train on: views along a path and beside it, of many rooms at once.

What carries the camera is a robot, a hand, a drone, or the wandering camera of
`trajectories.drive`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.trajectories import follow_open_space, smooth
from vggt3_ros.worlds.viewpoints import CLEARANCE, Draw, drawing, pull_back

CARRIERS = ("robot", "hand", "drone", "wandering")
_SHORTEST = 1.0  # metres of a path
_LONGEST = 6.0
_SPOTS = 64  # points a room among which paths are found
_LEGS = 6  # waypoints at most
_DENSE = 6  # samples of the path between two views
_ASIDE = (
    0.5,
    0.3,
    0.3,
)  # metres right, down and forward that a view is moved off the path, at most
_ROTATED = (0.2, 0.35, 0.1)  # radians of pitch, yaw and roll that it is turned, at most


@torch.no_grad()
def tours(rooms: RoomBatch, views: int, generator: torch.Generator) -> Tensor:
    """world_from_cam (B, views, 4, 4) float64: stations of a path of 1 to 6 metres, half of them
    aside.

    Every room has a carrier of its own. A robot keeps its height and looks where it goes, back, or
    always to one side; a hand holds the camera at eye level and shakes; a drone changes its height,
    looks down and banks; a wandering camera does as those of evaluation do. Half of the views stand
    up to 0.5 m beside the path and look up to 20 degrees elsewhere: most of what they show was seen
    from it. Cameras keep 0.25 m off all surfaces, if need be on a shorter path. In places of more
    than 8 m from corner to corner paths are longer in proportion, up to twice. Raises InputError
    unless views >= 2.
    """
    if views < 2:
        raise InputError(f"tours need 2 views or more, got {views}")
    rand = drawing(generator, rooms.device)
    batch = len(rooms)
    device = rooms.device
    carrier = (rand(batch) * len(CARRIERS)).long()
    robot, hand, drone = (carrier == CARRIERS.index(name) for name in ("robot", "hand", "drone"))
    length = _SHORTEST + (_LONGEST - _SHORTEST) * rand(batch)
    extent = torch.linalg.vector_norm(rooms.half_sizes[:, 0, :2], dim=1)
    length = length * (extent / 4).clamp(min=1, max=2)
    position, travel = _path(rooms, _spots(rooms, robot, hand, rand), length, views, rand)

    time = torch.linspace(0, 2 * math.pi, views, device=device)
    # (B, V, 3)
    shake = torch.sin(
        time[:, None] * (0.8 + 1.5 * rand(batch, 1, 3)) + 2 * math.pi * rand(batch, 1, 3)
    )
    # a robot's camera looks forward, back or to a side
    mount = (rand(batch, 1) * 4).floor() * (math.pi / 2)
    wish = 2 * math.pi * rand(batch, 1) + (0.7 + 0.9 * rand(batch, 1)) * shake[..., 0]
    wish = torch.where(robot[:, None], travel + mount, wish)
    firm = torch.where(robot, 8.0, 2.5)
    yaw = follow_open_space(rooms, position, wish, firm)
    down = torch.where(drone, 0.2 + 0.5 * rand(batch), 0.06 + 0.1 * rand(batch))[:, None]
    sway = torch.where(robot, 0.02, torch.where(hand, 0.18, 0.22))[:, None]
    pitch = sway * shake[..., 1] - down
    heading = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=-1)
    where = position.double()
    pose = look_at(where, where + heading.double(), where.new_tensor([0.0, 0.0, 1.0]))
    roll = torch.zeros(batch, views, 3, dtype=torch.float64, device=device)
    roll[..., 2] = (
        torch.where(robot, 0.01, torch.where(hand | drone, 0.15, 0.06))[:, None] * shake[..., 2]
    )

    aside = (rand(batch, views, 1) < 0.5).double()
    shift = (rand(batch, views, 3) * 2 - 1).double() * where.new_tensor(_ASIDE) * aside
    wanted = pose[..., :3, 3] + (pose[..., :3, :3] @ shift[..., None]).squeeze(-1)
    pose[..., :3, 3] = pull_back(rooms, pose[..., :3, 3], wanted)
    rotation = roll + (rand(batch, views, 3) * 2 - 1).double() * where.new_tensor(_ROTATED) * aside
    pose[..., :3, :3] = pose[..., :3, :3] @ rotation_from_axis_angle(rotation)
    return pose


def _spots(rooms: RoomBatch, robot: Tensor, hand: Tensor, rand: Draw) -> Tensor:
    """Points (B, _SPOTS, 3) where a carrier may be, the first one with the most room around it."""
    low = rooms.bounds[:, :1]
    high = rooms.bounds[:, 1:]
    points = low + 0.3 + rand(len(rooms), _SPOTS, 3) * (high - low - 0.6)
    ceiling = high[:, 0, 2] - 0.35
    at = torch.where(robot, 0.35 + 0.9 * rand(len(rooms)), 1.3 + 0.5 * rand(len(rooms))).minimum(
        ceiling
    )
    bob = torch.where(hand, 0.1, 0.0)[:, None] * (rand(len(rooms), _SPOTS) - 0.5)
    points[..., 2] = torch.where((robot | hand)[:, None], at[:, None] + bob, points[..., 2])
    best = clearance(rooms, points).argmax(1)
    first = points.gather(1, best[:, None, None].expand(-1, 1, 3))
    return torch.cat([first, points[:, 1:]], dim=1)


def _path(
    rooms: RoomBatch, spots: Tensor, length: Tensor, views: int, rand: Draw
) -> tuple[Tensor, Tensor]:
    """Stations (B, views, 3) evenly along a smooth path of at most `length` (B,), and the yaw of
    travel (B, views).
    """
    corners, done = _corners(rooms, spots, length, rand)
    dense = (views - 1) * _DENSE + 1
    # (B, dense)
    at = (
        torch.linspace(0, 1, dense, device=spots.device)
        * torch.minimum(done[:, -1], length)[:, None]
    )
    leg = (torch.searchsorted(done, at, right=True) - 1).clamp(0, done.shape[1] - 2)
    start, end = (done.gather(1, leg + k) for k in (0, 1))
    fraction = ((at - start) / (end - start).clamp(min=1e-6)).clamp(0, 1)[..., None]
    a, b = (corners.gather(1, (leg + k)[..., None].expand(-1, -1, 3)) for k in (0, 1))
    line = a + fraction * (b - a)
    path = pull_back(rooms, line, smooth(line, _DENSE // 2))
    step = torch.cat([path[:, 1:] - path[:, :-1], path[:, -1:] - path[:, -2:-1]], dim=1)
    return path[:, ::_DENSE], torch.atan2(step[..., 1], step[..., 0])[:, ::_DENSE]


def _corners(rooms: RoomBatch, spots: Tensor, length: Tensor, rand: Draw) -> tuple[Tensor, Tensor]:
    """Way points (B, _LEGS + 1, 3) in mutual reach and the metres to each (B, _LEGS + 1); new
    ground comes first.
    """
    batch = len(rooms)
    index = torch.arange(len(rooms), device=spots.device)
    here = spots[:, 0]
    corners = [here]
    done = [torch.zeros(batch, device=spots.device)]
    fraction = torch.linspace(0, 1, 8, device=spots.device)[:, None]
    for _ in range(_LEGS):
        step = spots - here[:, None]
        far = torch.linalg.vector_norm(step, dim=-1)  # (B, K)
        fresh = torch.cdist(spots[..., :2], torch.stack(corners, 1)[..., :2]).amin(2).clamp(max=1.5)
        line = here[:, None, None] + fraction * step[:, :, None]  # (B, K, 8, 3)
        free = (
            (clearance(rooms, line.flatten(1, 2)) >= CLEARANCE + 0.02).view(*far.shape, -1).all(-1)
        )
        suitable = (far > 0.5) & (far < 3.0)
        score = 0.1 + suitable * (fresh + 0.6 * rand(batch, _SPOTS))
        pick = (score * free).argmax(1)
        goes = free[index, pick] & (far[index, pick] > 0.2) & (done[-1] < length)
        here = torch.where(goes[:, None], spots[index, pick], here)
        corners.append(here)
        done.append(done[-1] + far[index, pick] * goes)
    return torch.stack(corners, 1), torch.stack(done, 1)
