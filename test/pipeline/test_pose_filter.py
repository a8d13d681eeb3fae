from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.uncertainty import corrected_pose, pose_error_vector, squared_error
from vggt3_ros.pipeline.pose_filter import Carried, Sighting, Track
from vggt3_ros.pipeline.tracking import Tracker, TrackingSettings

from .drives import ODOM_START, Dice, deviations, exact_odometry, pose_at, verified, winding_way

HONEST = deviations(0.02, 0.5)
NO_FLOORS = TrackingSettings(
    floor_position_m=0, floor_rotation_rad=0, drift_translation_per_s=0, drift_rotation_per_s=0
)  # what Dice.odometry() does, and no more

WITHOUT_DRIFT = TrackingSettings(
    drift_translation=0,
    drift_translation_per_s=0,
    drift_rotation=0,
    drift_rotation_per_m=0,
    drift_rotation_per_s=0,
)


@dataclass
class Errors:
    """Of every published pose: errors (N, 6) of the filter and of the single pose, and the filter's
    chi-square (N,).
    """

    filtered: Tensor
    single: Tensor
    squares: Tensor
    published: float

    @staticmethod
    def rms(errors: Tensor) -> tuple[float, float]:
        """Of positions (m) and of rotations (rad)."""
        return float(errors[:, :3].square().sum(1).mean().sqrt()), float(
            errors[:, 3:].square().sum(1).mean().sqrt()
        )


def drive(
    settings: TrackingSettings,
    covariance: Tensor = HONEST,
    actual: Tensor | None = None,
    rate: float = 5.0,
    seeds: tuple[int, ...] = (0, 1),
) -> Errors:
    """200 attempts per seed. covariance is what poses claim, actual that of their errors."""
    filtered, single, squares, count = [], [], [], 0
    for seed in seeds:
        dice, tracker, way = Dice(seed), Tracker(settings), winding_way(200, rate)
        for i, (true, odom) in enumerate(zip(way, dice.odometry(way), strict=True)):
            seen = dice.noisy(true, covariance if actual is None else actual)
            tracked = tracker.update(int(1e9 * i / rate), verified(seen, covariance), odom)
            if tracked.map_from_cam is not None and tracked.covariance is not None:
                filtered.append(pose_error_vector(tracked.map_from_cam, true))
                single.append(pose_error_vector(seen, true))
                squares.append(squared_error(filtered[-1], tracked.covariance))
            count += 1
    return Errors(
        torch.stack(filtered), torch.stack(single), torch.tensor(squares), len(filtered) / count
    )


def test_the_filter_errs_less_than_single_poses_and_its_covariance_is_right() -> None:
    errors = drive(NO_FLOORS)
    position, rotation = Errors.rms(errors.filtered)
    single_position, single_rotation = Errors.rms(errors.single)
    assert position < 0.85 * single_position and rotation < 0.75 * single_rotation
    assert 4.5 < float(errors.squares.median()) < 6.2  # 5.35 of six degrees of freedom
    assert float((errors.squares < 12.592).double().mean()) > 0.92
    assert errors.published > 0.99


def test_covariances_three_times_too_small_are_made_good_by_the_floors() -> None:
    claimed, actual = deviations(0.003, 0.1), deviations(0.009, 0.3)
    errors = drive(TrackingSettings(), claimed, actual)
    assert errors.published > 0.99
    assert 2 < float(errors.squares.median()) < 7
    assert Errors.rms(errors.filtered)[0] < Errors.rms(errors.single)[0]


def test_poses_far_better_than_the_floors_are_not_made_worse() -> None:
    errors = drive(TrackingSettings(), deviations(0.002, 0.1))
    assert Errors.rms(errors.filtered)[0] < Errors.rms(errors.single)[0]
    assert Errors.rms(errors.filtered)[1] < Errors.rms(errors.single)[1]


def test_fast_motion_with_perfect_odometry_has_no_lag() -> None:
    way = [pose_at(0.4 * i, yaw=0.1 * i) for i in range(40)]  # 4 m/s and a turn of 1 rad/s at 10 Hz
    tracker = Tracker()
    for i, (true, odom) in enumerate(zip(way, exact_odometry(way), strict=True)):
        tracked = tracker.update(int(1e8) * i, verified(true, HONEST), odom)
        if tracked.map_from_cam is not None:
            torch.testing.assert_close(tracked.map_from_cam, true, rtol=0, atol=1e-9)
            assert tracked.map_from_odom is not None
            torch.testing.assert_close(tracked.map_from_odom @ odom, true, rtol=0, atol=1e-9)
    assert tracked.publish


def test_noise_of_poses_in_fast_motion_leaves_no_bias() -> None:
    way, dice, tracker, errors = [pose_at(0.2 * i) for i in range(300)], Dice(3), Tracker(), []
    for i, (true, odom) in enumerate(zip(way, exact_odometry(way), strict=True)):
        tracked = tracker.update(int(1e8) * i, verified(dice.noisy(true, HONEST), HONEST), odom)
        if tracked.map_from_cam is not None:
            errors.append(pose_error_vector(tracked.map_from_cam, true))
    mean = torch.stack(errors).mean(0)
    assert float(mean[:3].abs().max()) < 0.004  # single poses: 0.02 m; one step of the robot: 0.2 m


def test_odometry_carries_the_covariance_as_it_carries_errors() -> None:
    start, end = pose_at(0), pose_at(8, 3, yaw=0.7, z=1.5)
    motion, covariance, epsilon = se3_inverse(start) @ end, deviations(0.01, 1.0), 1e-5
    moved = Carried(0, start, covariance, ODOM_START).moved(
        10**9, ODOM_START @ motion, WITHOUT_DRIFT
    )
    columns = []
    for axis in range(6):
        wrong = corrected_pose(start, epsilon * torch.eye(6, dtype=torch.float64)[axis])
        columns.append(pose_error_vector(moved.map_from_cam, wrong @ motion) / epsilon)
    by_error = torch.stack(columns, dim=1)
    torch.testing.assert_close(
        moved.covariance, by_error @ covariance @ by_error.T, rtol=1e-3, atol=1e-7
    )
    assert math.sqrt(float(moved.covariance[2, 2])) == pytest.approx(
        math.hypot(8, 3) * math.radians(1), rel=0.01
    )


def test_drift_grows_alike_in_few_and_in_many_steps_and_shrinks_with_a_pose() -> None:
    way = [pose_at(0.05 * i) for i in range(61)]  # 3 m in 3 s
    odom = exact_odometry(way)

    def carried(every: int) -> Track:
        track = Track(Sighting(0, way[0], HONEST, odom[0]), NO_FLOORS)
        for i in range(every, 61, every):
            track.carry(int(5e7) * i, odom[i])
        return track

    in_many, at_once = carried(1).newest[1], carried(60).newest[1]
    assert (
        float(in_many[0, 0])
        == pytest.approx(float(at_once[0, 0]))
        == pytest.approx(0.02**2 + 0.15**2)
    )
    track = carried(1)
    track.include(Sighting(int(3e9), way[60], HONEST, odom[60]))
    assert float(track.newest[1][0, 0]) < 0.02**2
