"""What keyframes see of a room of boxes: depth from geometry alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vggt3_ros.geometry.camera import intrinsics_matrix, unproject
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import look_at
from vggt3_ros.scene.depth import KeyframeDepth

Box = tuple[tuple[float, float, float], tuple[float, float, float]]  # lowest and highest corner
SIZE_HW = (60, 80)
INTRINSICS = intrinsics_matrix(47, 47, 39.5, 29.5)
UP = torch.tensor([0.0, 0.0, 1.0]).double()


def poses(views: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Tensor:
    """world_from_cam (S, 4, 4) of cameras at places that look at points."""
    return torch.stack([look_at(_vector(at), _vector(to), UP) for at, to in views])


def keyframes(shell: Box, boxes: Sequence[Box], world_from_cam: Tensor) -> KeyframeDepth:
    """What cameras in a shell, among boxes, see; all of it agreed upon."""
    rays = unproject(torch.ones(SIZE_HW).double(), INTRINSICS)
    depth = []
    for pose in world_from_cam:
        ways = rays @ pose[:3, :3].T
        farthest = _crossing(shell, pose[:3, 3], ways)[1]
        for box in boxes:
            enter, leave = _crossing(box, pose[:3, 3], ways)
            farthest = torch.where((enter > 0) & (enter < leave), farthest.minimum(enter), farthest)
        depth.append(farthest.float())
    count = len(depth)
    return KeyframeDepth(
        depth=torch.stack(depth),
        provenance=torch.full((count, *SIZE_HW), int(Provenance.AGREED), dtype=torch.uint8),
        intrinsics=INTRINSICS.expand(count, 3, 3).clone(),
        world_from_cam=world_from_cam,
    )


def _crossing(box: Box, origin: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
    """How far along ways (h, w, 3) a box begins and ends."""
    low, high = (_vector(corner) for corner in box)
    safe = torch.where(ways.abs() < 1e-9, 1e-9, ways)
    first, second = (low - origin) / safe, (high - origin) / safe
    return first.minimum(second).amax(-1), first.maximum(second).amin(-1)


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
