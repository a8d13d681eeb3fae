"""Cast shadows: for every room a depth image seen by its first light, made once and looked up by
all of its views.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import look_at, se3_inverse
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.render import render_depth
from vggt3_ros.worlds.room import RoomBatch

SHADOW_SIZE = 224  # pixels across
_WIDE = math.tan(math.radians(75))  # of a lamp that looks straight down
_GAP = 0.02  # metres between a lamp and what may be next to it


@torch.no_grad()
def with_shadows(rooms: RoomBatch, which: Tensor | None = None) -> RoomBatch:
    """The rooms, all or those of `which` (B,) bool, with shadows of their first light: a lamp
    inside, or the sun.

    A lamp looks straight down, 75 degrees to all sides: what is beyond, high up on walls, counts as
    lit. One within something casts no shadows. The shell casts none: the sun shines through.
    """
    light = rooms.lights[:, 0, :3].double()
    centre = rooms.centres[:, 0].double()
    half = rooms.half_sizes[:, 0].double()
    outside = ((light - centre).abs() > half).any(1)
    away = torch.linalg.vector_norm(light - centre, dim=1)
    radius = torch.linalg.vector_norm(half, dim=1)
    # half the width at distance 1
    spread = torch.where(outside, radius / (away - radius).clamp(min=1e-3), _WIDE)
    below = light - light.new_tensor([0.0, 0.0, 1.0])
    target = torch.where(outside[:, None], centre, below)
    pose = look_at(light, target, light.new_tensor([0.0, 1.0, 0.0]))
    intrinsics = torch.zeros(len(rooms), 3, 3, dtype=torch.float64, device=rooms.device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = SHADOW_SIZE / 2 / spread
    intrinsics[:, :2, 2] = SHADOW_SIZE / 2
    intrinsics[:, 2, 2] = 1.0
    depth = render_depth(rooms, pose[:, None], intrinsics, SHADOW_SIZE, SHADOW_SIZE)[:, 0]
    buried = ~outside & (clearance(rooms, rooms.lights[:, :1, :3])[:, 0] < _GAP)
    without = buried if which is None else buried | ~which
    depth = torch.where(without[:, None, None], torch.inf, depth)
    return replace(
        rooms, shadow_depth=depth, shadow_camera=(intrinsics @ se3_inverse(pose)[:, :3]).float()
    )
