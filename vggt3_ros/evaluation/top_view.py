"""Which plane to look down on: the upward direction of a world, and horizontal axes that suit the
cameras.
"""

from __future__ import annotations

import torch
from torch import Tensor

# mean square of sideways axes along a direction, above which that direction is not upright
_LEVEL = 0.03


def upward_direction(world_from_cam: Tensor) -> Tensor:
    """Unit vector (3,) against gravity, guessed from hand-held or robot camera poses (N, 4, 4).

    People and robots keep the camera's sideways axis level while they pitch it, so up is the
    direction to which those axes are most orthogonal. While all cameras look the same way this
    leaves a whole plane to choose from; then it is the direction in that plane nearest to the
    cameras' mean up-vector.
    """
    sideways = world_from_cam[:, :3, 0]
    up = -world_from_cam[:, :3, 1].mean(0)
    # ascending, axes in columns
    spread, axes = torch.linalg.eigh(sideways.T @ sideways / len(sideways))
    if float(spread[1]) > _LEVEL:
        direction = axes[:, 0]
    else:
        direction = up - (up @ axes[:, 2]) * axes[:, 2]
    direction = direction * (1.0 if float(direction @ up) >= 0 else -1.0)
    return torch.nn.functional.normalize(direction, dim=0)


def plane_from_world(world_from_cam: Tensor, up: Tensor | None) -> Tensor:
    """Rotation (3, 3) into top-view axes: right, away, up, of the poses (N, 4, 4); `up` (3,) if it
    is known.

    A world whose Z is up keeps its X and Y, so that the picture shows its own coordinates.
    Otherwise the cameras' mean sideways axis points right.
    """
    if up is not None and torch.allclose(up, up.new_tensor([0.0, 0.0, 1.0])):
        return torch.eye(3, dtype=world_from_cam.dtype)
    up = upward_direction(world_from_cam) if up is None else up
    right = world_from_cam[:, :3, 0].mean(0)
    right = right - (right @ up) * up
    if float(right.norm()) < 0.1:  # cameras all around: no common right, take any
        right = torch.linalg.cross(up, torch.eye(3, dtype=up.dtype)[int(up.abs().argmin())], dim=0)
    right = torch.nn.functional.normalize(right, dim=0)
    return torch.stack([right, torch.linalg.cross(up, right, dim=0), up])
