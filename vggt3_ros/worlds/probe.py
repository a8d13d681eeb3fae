"""Questions about free space: how far is the next surface from a point, and along a ray."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.worlds.intersect import Triple, enter_cube, enter_round, leave_cube
from vggt3_ros.worlds.room import RoomBatch


@torch.no_grad()
def clearance(rooms: RoomBatch, points: Tensor) -> Tensor:
    """Distance (B, N) in metres from points (B, N, 3) to the next surface; negative inside
    obstacles or walls.

    Rounded primitives count as their boxes, so the answer never exceeds the true distance.
    """
    points = points.to(rooms.device, torch.float32)
    local = _local(rooms, points, 1.0)  # (B, P, N, 3)
    half = rooms.half_sizes[:, :, None]
    gap = local.abs() * half - half
    outside = torch.linalg.vector_norm(gap.clamp(min=0), dim=-1) + gap.amax(-1).clamp(max=0)
    outside[:, 0] = -gap[:, 0].amax(-1)  # the shell is solid outside
    absent = rooms.half_sizes[:, :, 0] <= 0
    return outside.masked_fill_(absent[..., None], torch.inf).amin(1)


@torch.no_grad()
def cast(rooms: RoomBatch, origins: Tensor, directions: Tensor) -> Tensor:
    """Parameter (B, N) at which rays origin + parameter * direction, both (B, N, 3), meet the first
    surface.

    Metres if directions are unit vectors. Origins lie in free space.
    """
    origins = origins.to(rooms.device, torch.float32)
    directions = directions.to(rooms.device, torch.float32)
    start = _local(rooms, origins, 1.0)
    heading = _local(rooms, directions, 0.0)
    o = _triple(start)
    d = _triple(heading)
    nearest = leave_cube(_triple(start[:, 0]), _triple(heading[:, 0]))
    boxes = torch.arange(start.shape[1], device=rooms.device) < rooms.box_counts[:, None]
    boxes[:, 0] = False
    rounded = (rooms.half_sizes[..., 0] > 0) & ~boxes
    rounded[:, 0] = False
    for mask, hit in (
        (boxes, enter_cube(o, d)),
        (rounded, enter_round(o, d, rooms.sphere[..., None])),
    ):
        nearest = torch.minimum(nearest, hit.masked_fill_(~mask[..., None], torch.inf).amin(1))
    return nearest


def _local(rooms: RoomBatch, vectors: Tensor, weight: float) -> Tensor:
    """Vectors (B, N, 3) in the frames of all primitives (B, P, N, 3); weight 1 for points, 0 for
    directions.
    """
    m = rooms.local_from_world[:, :, None]  # (B, P, 1, 3, 4)
    # Sums instead of a matrix product: exact float32 whatever TF32 or autocast are set to.
    return (m[..., :3] * vectors[:, None, :, None]).sum(-1) + weight * m[..., 3]


def _triple(vectors: Tensor) -> Triple:
    x, y, z = vectors.unbind(-1)
    return x, y, z
