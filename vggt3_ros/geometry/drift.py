"""How far odometry goes astray along its way."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.pose_graph import RelativePoses

FORM = "SCALE,ANGLE such as 2%,0.1deg: of the way, and per metre"
_NUMBER = r"(\d+\.?\d*|\.\d+)"
_DRIFT = re.compile(rf"{_NUMBER}%,{_NUMBER}deg")
# least deviations of a step, however short: metres and rad
_LEAST_M = 0.005
_LEAST_RAD = math.radians(0.05)


@dataclass(frozen=True)
class Drift:
    """Usual errors of odometry: a fraction `scale` of the way, and `rotation` rad per metre. Raises
    InputError for errors that are not finite or negative, or both zero.
    """

    scale: float
    rotation: float

    def __post_init__(self) -> None:
        both = (self.scale, self.rotation)
        if not (all(map(math.isfinite, both)) and min(both) >= 0 and max(both) > 0):
            raise InputError(
                f"drift is {self.scale} of the way and {self.rotation} rad per metre; expected"
                " numbers from 0, one of them above"
            )

    @staticmethod
    def parse(text: str) -> Drift:
        """From a text such as `2%,0.1deg`. Raises InputError for anything else, and beyond 50 %
        and 45 degrees per metre.
        """
        match = _DRIFT.fullmatch(text)
        if match is None:
            raise InputError(f"drift is {FORM}; got {text!r}")
        percent = float(match[1])
        degrees = float(match[2])
        if percent > 50 or degrees > 45:
            raise InputError(f"drift is at most 50% and 45deg per metre; got {text!r}")
        return Drift(percent / 100, math.radians(degrees))

    def __str__(self) -> str:
        return f"{100 * self.scale:g}%,{math.degrees(self.rotation):g}deg"

    def angle(self, metres: Floats) -> Floats:
        """Rotation in rad that the odometry is usually off by after so many metres (...)."""
        return self.rotation * metres

    def offset(self, metres: Floats) -> Floats:
        """Metres that it is usually off by, after so many metres (...) straight on."""
        return self.scale * metres + self.rotation * metres**2 / 2

    def chain(self, world_from_cam: Floats) -> RelativePoses:
        """The steps between successive poses (K, 4, 4) of odometry, as measurements.

        Errors are taken to be drawn anew at each step, and so large that they add up, over the
        whole way, to what errors of one sign do.
        """
        first = np.arange(len(world_from_cam) - 1)
        steps = np.linalg.inv(world_from_cam[:-1]) @ world_from_cam[1:]
        metres = np.linalg.norm(steps[:, :3, 3], axis=1)
        root = np.sqrt(metres * metres.sum())
        sigmas = np.empty((len(steps), 6))
        sigmas[:, :3] = np.maximum(self.scale * root, _LEAST_M)[:, None]
        sigmas[:, 3:] = np.maximum(self.rotation * root, _LEAST_RAD)[:, None]
        covariance = sigmas[:, :, None] ** 2 * np.eye(6)
        return RelativePoses(first, first + 1, steps, covariance, np.zeros(len(first), dtype=bool))


def travelled(world_from_cam: Floats) -> Floats:
    """Metres (K,) along the way to each of successive poses (K, 4, 4)."""
    steps = np.linalg.norm(np.diff(world_from_cam[:, :3, 3], axis=0), axis=1)
    along: Floats = np.concatenate([[0.0], np.cumsum(steps)])
    return along
