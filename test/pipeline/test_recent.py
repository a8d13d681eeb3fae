from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.landmarks.acceptance import Evidence
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.locate import Located
from vggt3_ros.pipeline.localization import Localization, Searched
from vggt3_ros.pipeline.recent import RecentImages
from vggt3_ros.pipeline.tracking_settings import TrackingSettings

from .drives import ODOM, WAY, at, failure, pose_at

STEP = 4  # of WAY: 20 cm
FEATURES = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), (640, 480))


def seen(number: int, metric: bool = True) -> Localization:
    """A refused image; its number is that of its landmarks."""
    located = Located(
        False, "only 4 landmarks agree", "descriptor", evidence=Evidence(inliers=number)
    )
    searched = Searched(FEATURES, np.eye(3))
    return replace(failure(), located=located, searched=searched, metric=metric)


def asked(recent: RecentImages, index: int, odometry: Tensor | None, **options: bool) -> list[int]:
    """Which images, by number, are asked together when image `index` of WAY has come."""
    return [
        view.located.inliers
        for view in recent.together(at(index), seen(index, **options), odometry)
    ]


def test_the_last_images_of_a_moving_robot_are_asked_together() -> None:
    recent = RecentImages(TrackingSettings(joint_images=3))
    together = [asked(recent, i, ODOM[i]) for i in range(0, 5 * STEP, STEP)]
    assert together == [[], [0, 4], [0, 4, 8], [4, 8, 12], [8, 12, 16]]


def test_views_are_placed_by_odometry_that_drifts_with_the_way() -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    views = [recent.together(at(i), seen(i), ODOM[i]) for i in range(0, 4 * STEP, STEP)][-1]
    assert len(views) == 4
    for view in views:
        expected = se3_inverse(WAY[3 * STEP]) @ WAY[view.located.inliers]
        assert np.allclose(view.newest_from_cam, expected.numpy(), atol=1e-9)
    spread = [float(np.sqrt(view.covariance[:3, :3].trace())) for view in views]
    assert spread[0] > spread[1] > spread[2] > spread[3] == 0
    assert 0.03 < spread[0] < 0.15  # of 60 cm


def test_a_robot_that_stands_shows_nothing_more() -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    assert [asked(recent, i, ODOM[0]) for i in range(5)] == [[]] * 5
    assert asked(recent, STEP, ODOM[STEP]) == [0, STEP]


def test_a_robot_that_turns_shows_more() -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    assert [asked(recent, i, pose_at(0.0, yaw=0.2 * i)) for i in range(3)] == [
        [],
        [0, 1],
        [0, 1, 2],
    ]


@pytest.mark.parametrize(
    "unusable", [None, torch.full((4, 4), torch.nan).double(), 2 * torch.eye(4).double()]
)
def test_without_odometry_images_stand_alone(unusable: Tensor | None) -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    asked(recent, 0, ODOM[0])
    assert asked(recent, STEP, unusable) == []
    assert asked(recent, 2 * STEP, ODOM[2 * STEP]) == [0, 2 * STEP]


def test_in_a_map_without_scale_images_stand_alone() -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    assert [asked(recent, i, ODOM[i], metric=False) for i in (0, STEP)] == [[], []]


def test_a_clock_that_runs_back_and_another_map_begin_anew() -> None:
    recent = RecentImages(TrackingSettings(joint_images=4))
    asked(recent, 2 * STEP, ODOM[2 * STEP])
    assert asked(recent, STEP, ODOM[STEP]) == []
    assert asked(recent, 3 * STEP, ODOM[3 * STEP]) == [STEP, 3 * STEP]
    recent.forget()
    assert asked(recent, 4 * STEP, ODOM[4 * STEP]) == []


def test_one_image_is_none_that_is_asked_with_others() -> None:
    recent = RecentImages(TrackingSettings(joint_images=1))
    assert [asked(recent, i, ODOM[i]) for i in (0, STEP, 2 * STEP)] == [[]] * 3
