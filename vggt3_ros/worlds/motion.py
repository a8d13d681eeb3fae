"""A camera that moves smoothly through given poses, at the speed of a robot."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import (
    quaternion_from_rotation,
    rotation_angle,
    rotation_from_quaternion,
    se3,
)

_MIN_INTERVAL = 1e-3  # seconds between two poses that are the same


def steady_motion(world_from_cam: Tensor, rate: float, speed: float, turn_speed: float) -> Tensor:
    """Poses (F, 4, 4) float64, `rate` a second, of a camera that passes K given ones (K, 4, 4) at
    an even pace.

    Between neighbours it moves at about `speed` (m/s) and turns at about `turn_speed` (rad/s) at
    most; it starts and ends at rest. The first and the last pose are those given. Raises InputError
    unless K >= 1 and all three are > 0.
    """
    if len(world_from_cam) < 1 or not (rate > 0 and speed > 0 and turn_speed > 0):
        counts = f"{len(world_from_cam)} poses, rate {rate}, speed {speed}, turn_speed {turn_speed}"
        raise InputError(
            f"steady_motion needs one pose or more, and rate, speed, turn_speed > 0; got {counts}"
        )
    poses = world_from_cam.double()
    moving = torch.linalg.vector_norm(poses[1:, :3, 3] - poses[:-1, :3, 3], dim=-1) / speed
    rotating = rotation_angle(poses[:-1, :3, :3].transpose(1, 2) @ poses[1:, :3, :3]) / turn_speed
    times = torch.cat(
        [moving.new_zeros(1), torch.maximum(moving, rotating).clamp(min=_MIN_INTERVAL).cumsum(0)]
    )
    frames = math.ceil(float(times[-1]) * rate) + 1
    at = torch.linspace(0, float(times[-1]), frames, dtype=times.dtype, device=times.device)
    return pass_through(poses, times, at)


def pass_through(world_from_cam: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """Poses (F, 4, 4) float64 at times `at` (F,) on a smooth curve through world_from_cam (K, 4, 4)
    at `times` (K,).

    Cubic Hermite curves of positions and of quaternions, with the slopes of central differences,
    zero at both ends. `times` rise; neighbouring poses are less than half a turn apart.
    """
    if len(world_from_cam) == 1:
        return world_from_cam.double().expand(len(at), 4, 4).clone()
    quaternion = quaternion_from_rotation(world_from_cam[:, :3, :3].double())
    # q and -q are one rotation: the near one of the two
    flips = (quaternion[1:] * quaternion[:-1]).sum(-1).sign()
    flips = torch.cat([flips.new_ones(1), torch.where(flips == 0, 1.0, flips).cumprod(0)])
    # (K, 7)
    values = torch.cat([world_from_cam[:, :3, 3].double(), quaternion * flips[:, None]], dim=-1)
    slopes = torch.zeros_like(values)
    slopes[1:-1] = (values[2:] - values[:-2]) / (times[2:] - times[:-2])[:, None]
    after = torch.searchsorted(times, at.contiguous(), right=True).clamp(1, len(times) - 1)
    before = after - 1
    span = (times[after] - times[after - 1])[:, None]
    s = (at - times[before])[:, None] / span
    curve = (
        (1 + 2 * s) * (1 - s) ** 2 * values[before]
        + s * (1 - s) ** 2 * span * slopes[before]
        + s**2 * (3 - 2 * s) * values[after]
        - s**2 * (1 - s) * span * slopes[after]
    )
    return se3(rotation_from_quaternion(curve[:, 3:]), curve[:, :3])
