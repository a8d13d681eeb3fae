"""Drives through a map with odometry and poses whose errors are known, for tests of tracking."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import look_at, rotation_angle, se3_inverse
from vggt3_ros.geometry.uncertainty import corrected_pose
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.tracking import Tracked, Tracker, TrackingSettings, TrackingState

ODOM_START = corrected_pose(
    torch.eye(4, dtype=torch.float64),
    torch.tensor([30.0, -20.0, 0.0, 0.1, 0.2, 1.0], dtype=torch.float64),
)  # odom_from_cam of the first pose: far from the origin of odom, where lever arms would show


def outcome(
    status: LocalizationStatus,
    reason: str,
    pose: Tensor | None = None,
    covariance: Tensor | None = None,
    metric: bool = True,
) -> Localization:
    return Localization(status, reason, pose, metric, 0.5, None, None, {}, covariance)


def verified(pose: Tensor, covariance: Tensor | None = None, metric: bool = True) -> Localization:
    return outcome(LocalizationStatus.VERIFIED, "60 landmarks agree", pose, covariance, metric)


def unverified(pose: Tensor) -> Localization:
    return outcome(LocalizationStatus.UNVERIFIED, "nothing verified it", pose)


def failure(reason: str = "only 4 landmarks agree") -> Localization:
    return outcome(LocalizationStatus.LOST, reason)


def pose_at(x: float, y: float = 0.0, yaw: float = 0.0, z: float = 1.0) -> Tensor:
    """map_from_cam (4, 4) of a level camera."""
    position = torch.tensor([x, y, z], dtype=torch.float64)
    ahead = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0], dtype=torch.float64)
    return look_at(position, position + ahead, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def deviations(metres: float, degrees: float) -> Tensor:
    """Covariance (6, 6) of these standard deviations per axis."""
    radians = math.radians(degrees)
    return torch.diag(torch.tensor([metres] * 3 + [radians] * 3, dtype=torch.float64).square())


def winding_way(count: int, rate: float, speed: float = 0.5) -> list[Tensor]:
    """map_from_cam of a robot that turns left and right while it drives."""
    poses, x, y, yaw = [], 0.0, 0.0, 0.0
    for i in range(count):
        poses.append(pose_at(x, y, yaw))
        x, y = x + speed / rate * math.cos(yaw), y + speed / rate * math.sin(yaw)
        yaw += 0.5 * math.sin(0.3 * i / rate) / rate
    return poses


@dataclass
class Dice:
    """Seeded errors."""

    seed: int = 0
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def noisy(self, pose: Tensor, covariance: Tensor) -> Tensor:
        """The pose with an error of this covariance (6, 6)."""
        error = torch.randn(6, generator=self.generator, dtype=torch.float64)
        return corrected_pose(pose, torch.linalg.cholesky(covariance) @ error)

    def odometry(
        self,
        way: list[Tensor],
        per_metre: float = 0.05,
        per_radian: float = 0.02,
        turn_per_metre: float = 0.005,
    ) -> list[Tensor]:
        """odom_from_cam along a way, with independent errors that grow as TrackingSettings says by
        default.
        """
        odom = [ODOM_START]
        for before, after in zip(way, way[1:]):  # noqa: B905, one shorter
            motion = se3_inverse(before) @ after
            metres, radians = float(motion[:3, 3].norm()), float(rotation_angle(motion[:3, :3]))
            position = max(per_metre * math.sqrt(metres), 1e-9)
            rotation = max(math.sqrt(per_radian**2 * radians + turn_per_metre**2 * metres), 1e-9)
            odom.append(odom[-1] @ self.noisy(motion, deviations(position, math.degrees(rotation))))
        return odom


def exact_odometry(way: list[Tensor]) -> list[Tensor]:
    """odom_from_cam without any error."""
    return [ODOM_START @ se3_inverse(way[0]) @ pose for pose in way]


PRECISE = deviations(0.01, 0.3)
WAY = [pose_at(0.05 * i) for i in range(200)]  # 0.5 m/s, ten attempts per second
ODOM = exact_odometry(WAY)


def at(index: float) -> int:
    """Stamp of the pose of this index."""
    return int(1e8 * index) + 10**12


def good(index: int) -> Localization:
    return verified(WAY[index], PRECISE)


def attempt(tracker: Tracker, index: int, outcome: Localization, odometry: bool = True) -> Tracked:
    return tracker.update(at(index), outcome, ODOM[index] if odometry else None)


def localized(odometry: bool = True, settings: TrackingSettings | None = None) -> Tracker:
    """A tracker after attempts 0 to 4, all good."""
    tracker = Tracker(settings)
    for i in range(5):
        attempt(tracker, i, good(i), odometry)
    assert tracker.state is TrackingState.LOCALIZED
    return tracker


def displaced(poses: list[Tensor], metres: float) -> list[Tensor]:
    """Odometry after its own frame jumped."""
    moved = [pose.clone() for pose in poses]
    for pose in moved:
        pose[1, 3] += metres
    return moved
