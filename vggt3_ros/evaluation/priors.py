"""What a map is given of its cameras: nothing, the true poses, or these with noise or drift."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse
from vggt3_ros.worlds.odometry import DriftingOdometry

_NOISE = re.compile(r"noisy:(\d+\.?\d*|\.\d+)(cm|m),(\d+\.?\d*|\.\d+)deg")
_DRIFT = "drift:"
_STRETCH_M = 5.0  # metres over which odometry errs alike
_FORMS = (
    "none, given, noisy:LENGTH,ANGLE such as noisy:3cm,1deg or noisy:0.1m,3deg, or"
    " drift:SCALE,ANGLE such as drift:2%,0.1deg (of the way, and per metre)"
)


@dataclass(frozen=True)
class Priors:
    """Pose priors of the map frames; the noise is an rms length in metres and an rms angle in
    degrees, or odometry drifts by `drift`.
    """

    kind: Literal["none", "given", "noisy", "drift"] = "none"
    position_m: float = 0.0
    rotation_deg: float = 0.0
    drift: Drift | None = None

    @staticmethod
    def parse(text: str) -> Priors:
        """From `none`, `given`, `noisy:3cm,1deg` (metres as well) or `drift:2%,0.1deg`. Raises
        InputError for anything else.
        """
        if text in ("none", "given"):
            return Priors("none" if text == "none" else "given")
        if text.startswith(_DRIFT):
            return Priors("drift", drift=Drift.parse(text.removeprefix(_DRIFT)))
        match = _NOISE.fullmatch(text)
        if match is None:
            raise InputError(f"pose priors are {_FORMS}; got {text!r}")
        length = float(match[1]) / (100 if match[2] == "cm" else 1)
        angle = float(match[3])
        if length > 1000 or angle > 180:
            raise InputError(
                f"noise of pose priors is at most 1000 m and 180 degrees; got {text!r}"
            )
        return Priors("noisy", length, angle)

    def __str__(self) -> str:
        if self.drift is not None:
            return f"{_DRIFT}{self.drift}"
        noise = (
            f":{100 * self.position_m:g}cm,{self.rotation_deg:g}deg" if self.kind == "noisy" else ""
        )
        return f"{self.kind}{noise}"

    def poses(self, world_from_cam: Tensor, seed: int) -> list[Tensor | None]:
        """Prior poses for true ones (N, 4, 4), None for each where none are given; a seed gives
        the same noise again.

        Noise is Gaussian and the same in all directions, independent for every frame: a
        displacement whose length has the rms `position_m`, and a rotation about the camera by a
        rotation vector whose length has the rms `rotation_deg`. Odometry starts at the first true
        pose and drifts as DriftingOdometry does, to sides that the seed draws: by the errors of
        `drift` on average, drawn anew every 5 metres with a deviation as large.
        """
        if self.kind == "none":
            return [None] * len(world_from_cam)
        if self.kind == "given":
            return list(world_from_cam)
        generator = torch.Generator().manual_seed(seed)
        if self.drift is not None:
            return _odometry(world_from_cam, self.drift, generator)
        draws = torch.randn(
            2, len(world_from_cam), 3, generator=generator, dtype=torch.float64
        ) / math.sqrt(3)
        noisy = world_from_cam.clone()
        noisy[:, :3, 3] += self.position_m * draws[0]
        noisy[:, :3, :3] @= rotation_from_axis_angle(math.radians(self.rotation_deg) * draws[1])
        return list(noisy)


def _odometry(
    world_from_cam: Tensor, drift: Drift, generator: torch.Generator
) -> list[Tensor | None]:
    """Drifting poses for true ones (N, 4, 4) in the order of the drive."""
    true = world_from_cam.double()
    signs = 2.0 * torch.randint(0, 2, (2,), generator=generator) - 1
    metres = (true[1:] - true[:-1])[:, :3, 3].norm(dim=1).cumsum(0)
    stretch = (metres / _STRETCH_M).long().tolist()
    draws = torch.randn(max(stretch, default=0) + 1, 2, generator=generator)
    odom_from_cam = true[0]
    poses: list[Tensor | None] = [odom_from_cam]
    for i, number in enumerate(stretch):
        scale, rotation = (signs * (1 + draws[number])).tolist()
        step = DriftingOdometry(true[i], scale * drift.scale, rotation * drift.rotation)
        step.move(true[i + 1])
        odom_from_cam = odom_from_cam @ se3_inverse(true[i]) @ step.odom_from_base
        poses.append(odom_from_cam)
    return poses
