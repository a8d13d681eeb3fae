"""What is assumed about motion, odometry and verified poses when they are compared over time."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from vggt3_ros.errors import InputError

_MAY_BE_ZERO = ("drift_", "floor_")


@dataclass(frozen=True)
class TrackingSettings:
    """When poses agree with each other, and what follows. Metres are units of the map, where it has
    no scale.

    confirmations: accepted poses in a row that must agree before the first is published; with 1 a
    wrong pose may be. lost_after_s: without an agreeing pose for longer than this, the robot is
    lost; longer than attempts are apart. joint_images: so many images in a row, apart from each
    other, are asked together where the newest one shows too little by itself; 1 asks each by
    itself. clock_jump_s: stamps that run backwards further than this mean that the clock was set
    back.

    floor_position_m, _rotation_rad: standard deviations, per axis, of errors that covariances of
    poses leave out.

    Odometry drifts by a standard deviation, per axis, of drift_translation metres per metre
    travelled and drift_translation_per_s per second, and by drift_rotation radians per radian
    turned, drift_rotation_per_m per metre travelled and drift_rotation_per_s per second.
    max_speed_mps, max_turn_radps: what the camera can do, for poses without odometry.

    Raises InputError for values out of range.
    """

    confirmations: int = 2
    lost_after_s: float = 2.0
    joint_images: int = 1
    clock_jump_s: float = 2.0
    floor_position_m: float = 0.01
    floor_rotation_rad: float = math.radians(0.3)
    drift_translation: float = 0.05
    drift_translation_per_s: float = 0.005
    drift_rotation: float = 0.02
    drift_rotation_per_m: float = 0.005
    drift_rotation_per_s: float = 0.002
    max_speed_mps: float = 1.5
    max_turn_radps: float = 2.0

    def __post_init__(self) -> None:
        for name in ("confirmations", "joint_images"):
            count = getattr(self, name)
            if not (isinstance(count, int) and count >= 1):
                raise InputError(f"{name} is {count!r}; expected a whole number of at least 1")
        for each in fields(self):
            value = getattr(self, each.name)
            if not math.isfinite(value) or value < 0:
                raise InputError(
                    f"{each.name} is {value}; expected a finite number that is not negative"
                )
            if value == 0 and not each.name.startswith(_MAY_BE_ZERO):
                raise InputError(f"{each.name} is 0; it must be positive")
