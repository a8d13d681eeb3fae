"""How much of what a camera sees of a room was seen by others before, without painting a single
image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.probe import cast
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.sequence import seen_fraction

_WIDTH = 64  # pixels across of the depth images that show what a camera saw


@torch.no_grad()
def mapped_fractions(room: RoomBatch, mapped: Tensor, poses: Tensor, lens: Lens) -> list[float]:
    """Fraction (0 to 1) of the view of each of `poses` (N, 4, 4) that cameras at `mapped` (M, 4, 4)
    saw.

    All are world_from_cam of cameras with the same lens; its distortion does not count.
    """
    scale = _WIDTH / lens.size_hw[1]
    height = max(1, round(scale * lens.size_hw[0]))
    smaller = lens.intrinsics * torch.tensor([[scale], [scale], [1.0]], dtype=lens.intrinsics.dtype)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(_WIDTH), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).view(-1, 3)
    intrinsics = smaller.to(room.device)
    pixels = pixels.to(room.device, smaller.dtype)
    mapped = mapped.to(room.device)
    poses = poses.to(room.device)
    # Rays of one metre in depth: how often they fit into the distance to a surface is its depth.
    # (M, H * W, 3)
    rays = pixels @ torch.linalg.inv(intrinsics).T @ mapped[:, :3, :3].transpose(1, 2)
    origins = mapped[:, None, :3, 3].expand_as(rays)
    depth = torch.cat(
        [cast(room, origin[None], ray[None]) for origin, ray in zip(origins, rays, strict=True)]
    )
    fractions: list[float] = seen_fraction(
        room, poses, mapped, depth.view(-1, height, _WIDTH), intrinsics
    ).tolist()
    return fractions
