"""Small pyramids that show where cameras are and look."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import transform_points

DEPTH = 0.08  # metres


def frustum_lines(world_from_cam: Tensor, depth: float = DEPTH) -> Tensor:
    """The edges (S, 8, 2, 3) of pyramids of that depth, of cameras (S, 4, 4): four from where each
    is, four around what it sees.
    """
    corners = torch.tensor(
        [[-1, -0.75, 1], [1, -0.75, 1], [1, 0.75, 1], [-1, 0.75, 1], [0, 0, 0]]
    ).double()
    points = transform_points(world_from_cam, (depth * corners).expand(len(world_from_cam), 5, 3))
    first = [4, 4, 4, 4, 0, 1, 2, 3]
    second = [0, 1, 2, 3, 1, 2, 3, 0]
    return torch.stack([points[:, first], points[:, second]], dim=2)
