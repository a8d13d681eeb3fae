"""The camera's pose in the map between and across verified poses: odometry carries it, verified
poses correct it.

The filter estimates map_from_odom, but keeps its uncertainty where it is small and where verified
poses have theirs: at the camera, as position in the map (m) and rotation vector in the camera frame
(rad), see docs/conventions.md. Were it kept at the origin of odom, any uncertain angle would act
there over the whole distance that the robot has driven. Odometry then moves the pose exactly (the
robot's own motion never lags), transports the covariance, and adds drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import cross_matrix, rotation_angle, se3_inverse
from vggt3_ros.geometry.uncertainty import (
    GATE,
    corrected_pose,
    pose_error_vector,
    squared_error,
)
from vggt3_ros.pipeline.tracking_settings import TrackingSettings

# Poses further from what was expected never agree, however vague that was.
_MAX_CORRECTION_M = 0.5
_MAX_CORRECTION_RAD = math.radians(15.0)


@dataclass(frozen=True, eq=False)
class Sighting:
    """An accepted pose map_from_cam (4, 4) with its covariance (6, 6), and odom_from_cam (4, 4) of
    the same stamp.
    """

    stamp_ns: int
    map_from_cam: Tensor
    covariance: Tensor
    odom_from_cam: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Carried:
    """A pose map_from_cam (4, 4) with covariance (6, 6), carried by odometry to where odom_from_cam
    (4, 4) is.

    metres, radians and seconds of motion since verified poses corrected it last.
    """

    stamp_ns: int
    map_from_cam: Tensor
    covariance: Tensor
    odom_from_cam: Tensor
    metres: float = 0.0
    radians: float = 0.0
    seconds: float = 0.0

    @property
    def map_from_odom(self) -> Tensor:
        """The pose (4, 4) of odometry's frame in the map, at this stamp."""
        return self.map_from_cam @ se3_inverse(self.odom_from_cam)

    def moved(self, stamp_ns: int, odom_from_cam: Tensor, settings: TrackingSettings) -> Carried:
        """Carried on to odom_from_cam (4, 4), of a stamp that is not older."""
        cam_from_next = se3_inverse(self.odom_from_cam) @ odom_from_cam
        rotation = cam_from_next[:3, :3]
        step = cam_from_next[:3, 3]
        moved = replace(
            self,
            stamp_ns=stamp_ns,
            map_from_cam=self.map_from_cam @ cam_from_next,
            odom_from_cam=odom_from_cam,
            metres=self.metres + float(step.norm()),
            radians=self.radians + float(rotation_angle(rotation)),
            seconds=self.seconds + 1e-9 * (stamp_ns - self.stamp_ns),
        )
        # A rotation w of the old camera takes the new one w x step aside; in the new camera's axes
        # it is rotation^T w.
        transport = torch.eye(6, dtype=torch.float64)
        transport[:3, 3:] = -self.map_from_cam[:3, :3] @ cross_matrix(step)
        transport[3:, 3:] = rotation.T
        drift = moved._drift(settings) - self._drift(settings)
        return replace(
            moved, covariance=transport @ self.covariance @ transport.T + torch.diag(drift)
        )

    def corrected(self, sighting: Sighting) -> Carried:
        """After a verified pose at the same place of the odometry (Kalman's update, in Joseph's
        form).
        """
        error = pose_error_vector(self.map_from_cam, sighting.map_from_cam)
        gain = torch.linalg.solve(self.covariance + sighting.covariance, self.covariance).T
        kept = torch.eye(6, dtype=torch.float64) - gain
        covariance = kept @ self.covariance @ kept.T + gain @ sighting.covariance @ gain.T
        pose = corrected_pose(self.map_from_cam, gain @ error)
        return Carried(sighting.stamp_ns, pose, (covariance + covariance.T) / 2, self.odom_from_cam)

    def _drift(self, settings: TrackingSettings) -> Tensor:
        """Variances (6,) that have come from drift since the last correction."""
        position = _grown(settings.drift_translation, self.metres)
        position += _grown(settings.drift_translation_per_s, self.seconds)
        rotation = _grown(settings.drift_rotation, self.radians)
        rotation += _grown(settings.drift_rotation_per_m, self.metres)
        rotation += _grown(settings.drift_rotation_per_s, self.seconds)
        return torch.tensor([position] * 3 + [rotation] * 3, dtype=torch.float64)


class Track:
    """Accepted poses that agree with each other, and the camera's pose that follows from them and
    from odometry.

    last: the newest of them; streak: how many came in a row, for whoever breaks it to set to 0.
    """

    def __init__(self, first: Sighting, settings: TrackingSettings) -> None:
        self.last = first
        self.streak = 1
        self._settings = settings
        self._carried = _fresh(first)
        deviations = [settings.floor_position_m] * 3 + [settings.floor_rotation_rad] * 3
        self._floor = torch.diag(torch.tensor(deviations, dtype=torch.float64).square())

    @property
    def map_from_odom(self) -> Tensor | None:
        """(4, 4), None as long as no pose came with odometry."""
        return None if self._carried is None else self._carried.map_from_odom

    @property
    def newest(self) -> tuple[Tensor, Tensor]:
        """map_from_cam (4, 4) of the last pose and its covariance (6, 6), with odometry those of
        the filter.

        The filter knows nothing of the floors, which are added here: errors of the map are not
        averaged away.
        """
        newest = (
            self.last if self._carried is None or self.last.odom_from_cam is None else self._carried
        )
        return newest.map_from_cam, newest.covariance + self._floor

    def carry(self, stamp_ns: int, odom_from_cam: Tensor) -> None:
        """Follow the odometry, whatever became of the attempt: so the path is known, not just its
        ends.
        """
        if self._carried is not None:
            self._carried = self._carried.moved(stamp_ns, odom_from_cam, self._settings)

    def objection(self, sighting: Sighting) -> str | None:
        """Why a newer pose, up to whose odometry this was carried, disagrees; None if it agrees."""
        if self._carried is None or sighting.odom_from_cam is None:
            return self._implausible_motion(sighting)
        error = pose_error_vector(self._carried.map_from_cam, sighting.map_from_cam)
        square = squared_error(
            error, self._carried.covariance + sighting.covariance + 2 * self._floor
        )
        if self._within(error, square):
            return None
        return (
            f"the pose lies {_extent(error)} from where odometry expects it (chi-square"
            f" {square:.3g}, {GATE:.3g} allowed)"
        )

    def include(self, sighting: Sighting) -> None:
        """Take over a pose that agrees."""
        self.last = sighting
        self.streak += 1
        if self._carried is None:
            self._carried = _fresh(sighting)
        elif sighting.odom_from_cam is not None:
            self._carried = self._carried.corrected(sighting)

    def _implausible_motion(self, sighting: Sighting) -> str | None:
        """Without odometry: whether the camera cannot have come here from the last pose."""
        settings = self._settings
        seconds = 1e-9 * (sighting.stamp_ns - self.last.stamp_ns)
        if seconds > settings.lost_after_s:
            return (
                f"without odometry, a pose {seconds:.1f} s ago confirms nothing"
                f" ({settings.lost_after_s:g} s would)"
            )
        error = pose_error_vector(self.last.map_from_cam, sighting.map_from_cam)
        beyond = torch.cat([
            _beyond(error[:3], settings.max_speed_mps * seconds),
            _beyond(error[3:], settings.max_turn_radps * seconds),
        ])  # fmt: skip
        covariance = self.last.covariance + sighting.covariance + 2 * self._floor
        if self._within(beyond, squared_error(beyond, covariance)):
            return None
        return (
            f"the pose lies {_extent(error)} from the last, {seconds:.2f} s before (at most"
            f" {settings.max_speed_mps:g} m/s and {settings.max_turn_radps:g} rad/s are plausible)"
        )

    def _within(self, error: Tensor, square: float) -> bool:
        return (
            float(error[:3].norm()) <= _MAX_CORRECTION_M
            and float(error[3:].norm()) <= _MAX_CORRECTION_RAD
            and square <= GATE
        )


def _fresh(sighting: Sighting) -> Carried | None:
    if sighting.odom_from_cam is None:
        return None
    return Carried(
        sighting.stamp_ns, sighting.map_from_cam, sighting.covariance, sighting.odom_from_cam
    )


def _grown(rate: float, amount: float) -> float:
    """Variance of drift at a rate per unit after an amount of motion.

    Up to one unit it grows like that of independent errors, so that it does not matter in how many
    steps poses correct it; beyond, like that of an error of scale, which is the larger one.
    """
    return rate**2 * amount * max(amount, 1.0)


def _beyond(vector: Tensor, reach: float) -> Tensor:
    """What of a vector is longer than the reach."""
    length = float(vector.norm())
    return vector * (max(length - reach, 0.0) / max(length, 1e-12))


def _extent(error: Tensor) -> str:
    return (
        f"{float(error[:3].norm()):.2f} m and {math.degrees(float(error[3:].norm())):.1f} degrees"
    )
