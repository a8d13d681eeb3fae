"""Pinhole cameras: projection, back-projection, the network's nine-number encoding, lens distortion
models.

Camera axes are OpenCV's: x right, y down, z forward. Intrinsics are (3, 3) matrices in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import quaternion_from_rotation, rotation_from_quaternion

_COEFFICIENT_COUNTS = {"plumb_bob": (4, 5, 8), "equidistant": (4,)}


@dataclass(frozen=True)
class Distortion:
    """Lens distortion as in sensor_msgs/CameraInfo.

    `plumb_bob`: k1 k2 p1 p2 [k3 [k4 k5 k6]] (OpenCV's order); `equidistant`: k1 k2 k3 k4 (OpenCV's
    fisheye).
    """

    model: Literal["plumb_bob", "equidistant"]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = _COEFFICIENT_COUNTS.get(self.model)
        if counts is None:
            raise InputError(
                f"distortion model {self.model!r} is unknown; use one of"
                f" {sorted(_COEFFICIENT_COUNTS)}"
            )
        if len(self.coefficients) not in counts:
            raise InputError(
                f"distortion {self.model!r} takes {counts} coefficients, got"
                f" {len(self.coefficients)}"
            )


def intrinsics_matrix(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """Intrinsics (3, 3) float64 from focal lengths and principal point in pixels."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


def project(points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project camera-frame points (..., N, 3); returns pixels (..., N, 2) and z (..., N) in the
    points' unit.
    """
    z = points[..., 2]
    rays = points @ intrinsics.transpose(-1, -2)
    return rays[..., :2] / rays[..., 2:], z


def unproject(depth: Tensor, intrinsics: Tensor, pixel_offset: float = 0.0) -> Tensor:
    """Camera-frame points (..., H, W, 3) from z-depth (..., H, W) and intrinsics (..., 3, 3).

    Pixel (column, row) lies at (column + pixel_offset, row + pixel_offset): 0.0 is the published
    network's convention, 0.5 that of a principal point measured from the image's corner.
    """
    height, width = depth.shape[-2:]
    columns = torch.arange(width, dtype=depth.dtype, device=depth.device) + pixel_offset
    rows = torch.arange(height, dtype=depth.dtype, device=depth.device) + pixel_offset
    fx, fy, cx, cy = (
        intrinsics[..., r, c, None, None] for r, c in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    x = (columns - cx) / fx * depth
    y = (rows[:, None] - cy) / fy * depth
    return torch.stack([x, y, depth], dim=-1)


def encode_camera(cam_from_world: Tensor, intrinsics: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Encode cam_from_world (..., 3|4, 4) and intrinsics (..., 3, 3) as the camera head's nine
    numbers (..., 9).

    0..2 translation, 3..6 quaternion x y z w with w >= 0, 7 vertical and 8 horizontal field of view
    in radians.
    """
    height, width = size_hw
    fov_v = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_h = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quaternion = quaternion_from_rotation(cam_from_world[..., :3, :3])
    return torch.cat(
        [cam_from_world[..., :3, 3], quaternion, fov_v[..., None], fov_h[..., None]], dim=-1
    )


def decode_camera(encoding: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Decode (..., 9) into cam_from_world (..., 3, 4) and intrinsics (..., 3, 3), principal point
    at the centre.
    """
    height, width = size_hw
    rotation = rotation_from_quaternion(encoding[..., 3:7])
    cam_from_world = torch.cat([rotation, encoding[..., :3, None]], dim=-1)
    fy = height / 2 / torch.tan(encoding[..., 7] / 2)
    fx = width / 2 / torch.tan(encoding[..., 8] / 2)
    zero = torch.zeros_like(fx)
    one = torch.ones_like(fx)
    entries = [fx, zero, one * (width / 2), zero, fy, one * (height / 2), zero, zero, one]
    return cam_from_world, torch.stack(entries, dim=-1).unflatten(-1, (3, 3))
