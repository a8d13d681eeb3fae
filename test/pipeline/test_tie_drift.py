"""Drifting odometry is corrected by loops before frames are tied to landmarks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.sim3 import umeyama
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.scene_of_map import loops_of
from vggt3_ros.pipeline.tie import _without_drift

from ..landmarks import drive_of_points as drive

MISSING = 20  # frame without odometry


def error(poses: torch.Tensor, true: np.ndarray) -> float:
    positions = poses[:, :3, 3]
    target = torch.from_numpy(true[:, :3, 3])
    off = umeyama(positions, target).points(positions) - target
    return float(off.norm(dim=1).max())


def test_frames_without_odometry_follow_those_that_loops_have_moved() -> None:
    true = drive.poses()
    odometry = torch.from_numpy(drive.odometry(true))
    observed: Any = SimpleNamespace(
        priors={i: pose for i, pose in enumerate(odometry) if i != MISSING},
        scene_from_cam=torch.from_numpy(true),
        source_intrinsics=torch.from_numpy(drive.intrinsics()),
    )
    features = drive.seen(true, [drive.unlike(450, seed=1)])
    poses, report = _without_drift(observed, features, drive.DRIFT, lambda fraction: None)
    assert report["found"] == len(report["pairs"]) >= 5
    assert error(poses, true) < error(odometry, true) / 3
    anchoring: Any = SimpleNamespace(report={"loops": report})
    assert [[loop.first, loop.second] for loop in loops_of(anchoring)] == [
        pair["keyframes"] for pair in report["pairs"]
    ]
    for pair in report["pairs"]:
        first, second = pair["keyframes"]
        relative = (np.linalg.inv(true[first]) @ true[second])[:3, 3]
        assert np.linalg.norm(relative - pair["position_m"]) < 0.2


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"landmarks": None}, "need landmarks"),
        ({"landmarks": LandmarkSettings(hold_priors=True)}, "cannot be held"),
        ({"priors_are_metric": False}, "told in metres"),
    ],
)
def test_drift_that_nothing_can_be_done_about_is_refused(settings: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        AnchorSettings(drift=drive.DRIFT, **settings)
