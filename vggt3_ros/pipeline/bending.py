"""The network's poses agree with the adjusted map: a similarity, and a smooth bending by what it
leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import (
    chordal_mean,
    rotation_angle,
    rotation_from_axis_angle,
    rotation_vector,
    se3,
)
from vggt3_ros.geometry.sim3 import Sim3, fit_poses, robust_umeyama

_REACHES = (0.3, 0.6, 1.2)  # of the median distance and angle between keyframes
# variance of a residual's random part over that of its smooth part
_NOISES = (0.03, 0.1, 0.3, 1.0, math.inf)
_MIN_DISTANCE = 1e-9
_MIN_ANGLE = math.radians(10)
_MAX_RESIDUAL = 0.5  # of the spread of the positions, rms


@dataclass(frozen=True, eq=False)
class Bending:
    """Network poses in scene units, brought into the map: a similarity, then a smooth field of
    corrections.

    The correction of a pose (position and rotation in the map frame) is interpolated from what the
    similarity leaves at the keyframes, by Gaussian-process regression with a kernel over distance
    and viewing angle: it vanishes far from all keyframes. reach (of the kernel: map units, rad) and
    noise are those that predict each keyframe best from the others; where residuals are random,
    that is no correction at all (infinite noise).

    map_from_keyframes (S, 4, 4) after the similarity alone; residuals (S, 6) position in map units,
    rotation vector; left_out (S, 6) the prediction of each from the others.
    """

    map_from_scene: Sim3
    map_from_keyframes: Tensor
    residuals: Tensor
    reach: tuple[float, float]
    noise: float
    left_out: Tensor

    @staticmethod
    def fit(
        scene_from_cam: Tensor, map_from_cam: Tensor, fallback_scale: float | None = None
    ) -> Bending:
        """Fit to keyframe poses of the network, in scene units, and adjusted ones in the map, both
        (S, 4, 4).

        Where less than half of the keyframes agree on a similarity, or only to half of their
        spread, its scale means nothing: then fallback_scale (map units per scene unit, for example
        of `anchor_depths`) is taken if given, with the mean rotation and shift.
        """
        scene = scene_from_cam.double()
        target = map_from_cam.double()
        similarity = _similarity(scene, target, fallback_scale)
        aligned = similarity.poses(scene)
        rotation = rotation_vector(target[:, :3, :3] @ aligned[:, :3, :3].transpose(-1, -2))
        residuals = torch.cat([target[:, :3, 3] - aligned[:, :3, 3], rotation], dim=1)
        distance, angle = _typical(aligned)
        candidates = []
        for factor, noise in product(_REACHES, _NOISES):
            reach = (factor * distance, factor * angle)
            left_out = _left_out(aligned, residuals, reach, noise)
            candidates.append(Bending(similarity, aligned, residuals, reach, noise, left_out))
        return min(candidates, key=Bending._prediction_error)

    def map_from_cam(self, scene_from_cam: Tensor) -> Tensor:
        """The pose (..., 4, 4) in the map of a network pose (..., 4, 4) in scene units, float64."""
        aligned = self.map_from_scene.poses(scene_from_cam.double())
        flat = aligned.reshape(-1, 4, 4)
        correction = _kernel(flat, self.map_from_keyframes, self.reach) @ self._weights
        return _corrected(flat, correction).view_as(aligned)

    def report(self) -> dict[str, float | int]:
        """How far network and adjusted keyframe poses are apart: after the similarity alone, and
        bent by the others.

        Positions in map units (metres if the map is metric), angles in degrees.
        """
        figures: dict[str, float | int] = {
            "keyframes": len(self.residuals),
            "scale": self.map_from_scene.scale,
        }
        for name, left in (("before", self.residuals), ("after", self._unexplained)):
            figures[f"position_rms_{name}"] = float(left[:, :3].square().sum(1).mean().sqrt())
            figures[f"rotation_median_deg_{name}"] = math.degrees(
                float(left[:, 3:].norm(dim=1).quantile(0.5))
            )
        return figures

    def _prediction_error(self) -> float:
        """Squared errors of the residuals as the others predict them, positions and rotations each
        over the squared residuals.
        """
        unit = self.residuals.square().view(-1, 2, 3).sum((0, 2)).clamp(min=1e-18)
        errors = (self.residuals - self.left_out).square().view(-1, 2, 3).sum((0, 2))
        return float((errors / unit).sum())

    @cached_property
    def _weights(self) -> Tensor:
        """What the kernel is multiplied with (S, 6)."""
        if math.isinf(self.noise):
            return torch.zeros_like(self.residuals)
        weights: Tensor = torch.linalg.solve(
            _gram(self.map_from_keyframes, self.reach, self.noise), self.residuals
        )
        return weights

    @property
    def _unexplained(self) -> Tensor:
        found = rotation_from_axis_angle(self.residuals[:, 3:])
        predicted = rotation_from_axis_angle(self.left_out[:, 3:])
        rotation = rotation_vector(found @ predicted.transpose(-1, -2))
        return torch.cat([self.residuals[:, :3] - self.left_out[:, :3], rotation], dim=1)


def _similarity(scene: Tensor, target: Tensor, fallback_scale: float | None) -> Sim3:
    try:
        fit = robust_umeyama(scene, target)
        spread = float((target[:, :3, 3] - target[:, :3, 3].mean(0)).square().sum(1).mean().sqrt())
        meaningful = (
            2 * int(fit.inliers.sum()) >= len(scene) and fit.residual <= _MAX_RESIDUAL * spread
        )
        if meaningful or fallback_scale is None:
            return fit.target_from_source
    except InputError:
        pass
    if fallback_scale is None:
        try:
            return fit_poses(scene, target)
        except InputError:
            fallback_scale = 1.0
    rotation = chordal_mean(target[:, :3, :3] @ scene[:, :3, :3].transpose(-1, -2))
    shift = target[:, :3, 3] - fallback_scale * scene[:, :3, 3] @ rotation.T
    return Sim3(fallback_scale, rotation, shift.mean(0))


def _kernel(poses: Tensor, keyframes: Tensor, reach: tuple[float, float]) -> Tensor:
    """How much each of poses (M, 4, 4) has to do with each keyframe (S, 4, 4): (M, S), 1 where they
    coincide.
    """
    distance, angle = _apart(poses, keyframes)
    return torch.exp(-0.5 * ((distance / reach[0]).square() + (angle / reach[1]).square()))


def _typical(keyframes: Tensor) -> tuple[float, float]:
    """Median distance and angle between two keyframes; an angle of 10 degrees at least."""
    others = ~torch.eye(len(keyframes), dtype=torch.bool)
    if not bool(others.any()):
        return 1.0, 1.0
    distance, angle = (apart[others].median() for apart in _apart(keyframes, keyframes))
    return max(float(distance), _MIN_DISTANCE), max(float(angle), _MIN_ANGLE)


def _apart(poses: Tensor, keyframes: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and angles in radians (M, S) of every pose from every keyframe."""
    angle = rotation_angle(poses[:, None, :3, :3].transpose(-1, -2) @ keyframes[:, :3, :3])
    return torch.cdist(poses[:, :3, 3], keyframes[:, :3, 3]), angle


def _gram(keyframes: Tensor, reach: tuple[float, float], noise: float) -> Tensor:
    return _kernel(keyframes, keyframes, reach) + noise * torch.eye(
        len(keyframes), dtype=torch.float64
    )


def _left_out(
    keyframes: Tensor, residuals: Tensor, reach: tuple[float, float], noise: float
) -> Tensor:
    """Residual (S, 6) of each keyframe as the others predict it (Rasmussen & Williams 2006, eq.
    5.12).
    """
    if math.isinf(noise):
        return torch.zeros_like(residuals)
    inverse = torch.linalg.inv(_gram(keyframes, reach, noise))
    predicted: Tensor = residuals - (inverse @ residuals) / inverse.diagonal()[:, None]
    return predicted


def _corrected(poses: Tensor, correction: Tensor) -> Tensor:
    rotation = rotation_from_axis_angle(correction[:, 3:]) @ poses[:, :3, :3]
    return se3(rotation, poses[:, :3, 3] + correction[:, :3])
