"""Loops of a drive are found where it comes back, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.sim3 import umeyama
from vggt3_ros.landmarks.close_loops import Closed, close_loops

from . import drive_of_points as drive

UNLIKE = drive.unlike(450, seed=1)
ELSEWHERE = drive.unlike(450, seed=2)
# keyframes from which on the drive is where it was before
AGAIN = int(drive.FRAMES * drive.METRES / (drive.METRES + drive.FURTHER)) - 2


def closed(features: list, odometry: np.ndarray) -> Closed:
    return close_loops(features, odometry, drive.intrinsics(), drive.DRIFT)


def error(poses: np.ndarray, true: np.ndarray) -> float:
    """Rms metres after the best similarity: no loop of a ring tells its scale."""
    positions, target = (torch.from_numpy(each[:, :3, 3]) for each in (poses, true))
    off = umeyama(positions, target).points(positions) - target
    return float(off.square().sum(1).mean().sqrt())


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return drive.poses()


def test_a_drive_that_comes_back_loses_its_drift(true: np.ndarray) -> None:
    odometry = drive.odometry(true)
    found = closed(drive.seen(true, [UNLIKE]), odometry)
    assert found.report["found"] >= 5
    assert error(found.world_from_cam, true) < error(odometry, true) / 5
    assert found.report["moved_max_m"] > 0.5
    for pair in found.report["pairs"]:
        first, second = pair["keyframes"]
        relative = (np.linalg.inv(true[first]) @ true[second])[:3, 3]
        assert np.linalg.norm(relative - pair["position_m"]) < 0.2


def test_where_it_only_seems_to_come_back_nothing_is_moved(true: np.ndarray) -> None:
    """Another corridor with the same doors, where odometry might have brought it back to."""
    doors = drive.alike(2.0, seed=3)
    first = drive.seen(true, [UNLIKE, doors])
    second = drive.seen(true, [ELSEWHERE, doors])
    odometry = drive.odometry(true)
    found = closed([*first[:AGAIN], *second[AGAIN:]], odometry)
    assert found.report["found"] == 0
    assert found.report["compared"] > 0
    np.testing.assert_array_equal(found.world_from_cam, odometry)


def test_a_corridor_of_doors_all_alike_is_closed_rightly_or_not_at_all(true: np.ndarray) -> None:
    odometry = drive.odometry(true)
    found = closed(drive.seen(true, [drive.alike(2.0, seed=3)]), odometry)
    for pair in found.report["pairs"]:
        first, second = pair["keyframes"]
        relative = (np.linalg.inv(true[first]) @ true[second])[:3, 3]
        assert np.linalg.norm(relative - pair["position_m"]) < 0.5


def test_loops_beyond_the_drift_are_refused(true: np.ndarray) -> None:
    """The same images where odometry cannot have gone that far astray."""
    odometry = drive.odometry(true)
    odometry[AGAIN - 3 :, :3, 3] += [0.0, 0.0, 9.0]
    exact = Drift(0.02, np.radians(0.1))
    found = close_loops(drive.seen(true, [UNLIKE]), odometry, drive.intrinsics(), exact)
    assert found.report["found"] == 0
    assert found.report["refused"]["beyond the drift"] >= 5
