"""How pixels and inverse depths of one view map into another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import se3_inverse


@dataclass(frozen=True, eq=False)
class Mapping:
    """From a reference's pixels into views: homogeneous pixel of the view ~ turn @ (x, y, 1) +
    inverse depth * shift.

    turn (..., 3, 3), shift (..., 3) float32. The third component is the ratio of depth in the view
    to depth in the reference. centre (..., 3): the view's centre in the reference's axes, metres.
    """

    turn: Tensor
    shift: Tensor
    centre: Tensor

    def scaled_to_grid(self, size_hw: tuple[int, int]) -> Mapping:
        """The same with the view's pixels scaled to [-1, 1], the outermost pixels' centres at -1
        and 1.
        """
        height, width = size_hw
        entries = [[2 / (width - 1), 0.0, -1.0], [0.0, 2 / (height - 1), -1.0], [0.0, 0.0, 1.0]]
        grid = torch.tensor(entries, dtype=self.turn.dtype, device=self.turn.device)
        return Mapping(grid @ self.turn, (grid @ self.shift[..., None])[..., 0], self.centre)


def mapping(
    intrinsics: Tensor, world_from_cam: Tensor, reference: Tensor, views: Tensor
) -> Mapping:
    """From keyframes `reference` (B,) into `views` (B, V), given all intrinsics (S, 3, 3) and poses
    (S, 4, 4).
    """
    intrinsics = intrinsics.double()
    world_from_cam = world_from_cam.double()
    view_from_reference = se3_inverse(world_from_cam[views]) @ world_from_cam[reference][:, None]
    rays = torch.linalg.inv(intrinsics[reference])[:, None]
    turn = intrinsics[views] @ view_from_reference[..., :3, :3] @ rays
    shift = intrinsics[views] @ view_from_reference[..., :3, 3:]
    centre = se3_inverse(view_from_reference)[..., :3, 3]
    return Mapping(turn.float(), shift[..., 0].float(), centre.float())


def homogeneous_pixels(size_hw: tuple[int, int], like: Tensor) -> Tensor:
    """Pixels (3, h, w) as x, y, 1."""
    rows = torch.arange(size_hw[0], dtype=like.dtype, device=like.device)[:, None].expand(size_hw)
    columns = torch.arange(size_hw[1], dtype=like.dtype, device=like.device).expand(size_hw)
    return torch.stack([columns, rows, torch.ones_like(rows)])
