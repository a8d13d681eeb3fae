"""Odometry of a robot whose wheels slip: right from step to step, further and further off along the
way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse


class DriftingOdometry:
    """odom_from_base (4, 4), which starts as the true map_from_base and then goes astray.

    Every path is measured longer than it is by the fraction `scale_error` (negative: shorter), and
    after each metre the robot believes to have turned `rotation_error` radians too far about the
    vertical. Who stands still does not drift. Raises InputError for errors that are not finite, and
    for a scale error of -1 or less.
    """

    def __init__(
        self, start: Tensor, scale_error: float = 0.0, rotation_error: float = 0.0
    ) -> None:
        if not (math.isfinite(scale_error) and scale_error > -1 and math.isfinite(rotation_error)):
            raise InputError(
                f"odometry errors are {scale_error} metres and {rotation_error} radians per metre;"
                " expected finite numbers, the first above -1"
            )
        self.odom_from_base = start.double().clone()
        self._true = start.double()
        self._scale_error = scale_error
        self._rotation_error = rotation_error

    def move(self, map_from_base: Tensor) -> Tensor:
        """The robot has moved to map_from_base (4, 4); returns the true motion before_from_after
        (4, 4).
        """
        motion = se3_inverse(self._true) @ map_from_base.double()
        self._true = map_from_base.double()
        metres = float(torch.linalg.vector_norm(motion[:3, 3]))
        measured = motion.clone()
        measured[:3, 3] *= 1 + self._scale_error
        after = self.odom_from_base @ measured
        about_z = torch.tensor([0.0, 0.0, self._rotation_error * metres], dtype=torch.float64)
        after[:3, :3] = rotation_from_axis_angle(about_z) @ after[:3, :3]
        self.odom_from_base = after
        return motion

    def carry(self, map_from_base: Tensor) -> None:
        """Somebody has carried the robot to map_from_base (4, 4): the odometry does not notice."""
        self._true = map_from_base.double()

    def jump(self, x: float, y: float, z: float = 0.0) -> None:
        """The odometry's own frame is displaced, in metres: a filter that was reset."""
        self.odom_from_base = self.odom_from_base.clone()
        self.odom_from_base[:3, 3] += torch.tensor([x, y, z], dtype=torch.float64)
