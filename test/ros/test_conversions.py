"""Stamps, poses, covariances, paths and what is told about a scene."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Transform, Vector3
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, rotation_vector, se3
from vggt3_ros.nodes.messages.conversions import (
    UNKNOWN_POSITION_VARIANCE,
    UNKNOWN_ROTATION_VARIANCE,
    path_message,
    pose_covariance,
    pose_from_message,
    pose_from_transform,
    pose_message,
    scene_info,
    stamp_ns,
    time_message,
    transform_from_pose,
)
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

from ..scene.conftest import build_scene

STEP = 1e-5


def pose(vector: tuple[float, float, float], position: tuple[float, float, float]) -> Tensor:
    return se3(
        rotation_from_axis_angle(torch.tensor(vector).double()), torch.tensor(position).double()
    )


POSES = [
    pose((0.3, -1.2, 2.0), (1.0, -2.0, 3.0)),
    pose((math.pi, 0, 0), (0, 0, 0)),
    pose((0, 0, 0), (1e3, 1, 1)),
]


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_700_000_000_123_456_789, -1])
def test_stamp_comes_back_to_the_nanosecond(ns: int) -> None:
    assert stamp_ns(time_message(ns)) == ns


def test_stamp_beyond_32_bits_of_seconds_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        time_message(2**31 * 10**9)


@pytest.mark.parametrize("original", POSES)
def test_pose_and_transform_come_back(original: Tensor) -> None:
    np.testing.assert_allclose(pose_from_message(pose_message(original)), original, atol=1e-12)
    np.testing.assert_allclose(
        pose_from_transform(transform_from_pose(original)), original, atol=1e-12
    )


def test_quaternion_is_x_y_z_w() -> None:
    half = math.sqrt(0.5)
    left = Pose(position=Point(x=1.0, y=2.0, z=3.0), orientation=Quaternion(z=half, w=half))
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(pose_from_message(left), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("position", "quaternion", "words"),
    [
        ((math.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "expected finite numbers"),
        ((0.0, 0.0, 0.0), (0.0, math.inf, 0.0, 1.0), "expected finite numbers"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), "which is no rotation"),
    ],
)
def test_pose_without_meaning_is_refused(
    position: tuple[float, ...], quaternion: tuple[float, ...], words: str
) -> None:
    (x, y, z), (qx, qy, qz, qw) = position, quaternion
    orientation = Quaternion(x=qx, y=qy, z=qz, w=qw)
    with pytest.raises(InputError, match=f"^pose has .*{words}"):
        pose_from_message(Pose(position=Point(x=x, y=y, z=z), orientation=orientation))
    with pytest.raises(InputError, match=f"^transform has .*{words}"):
        pose_from_transform(Transform(translation=Vector3(x=x, y=y, z=z), rotation=orientation))


def moved_child(error: Tensor, map_from_cam: Tensor, cam_from_child: Tensor) -> Tensor:
    """How far the child is off, (position in the map, rotation about the map's axes), when the
    camera is by `error`.
    """
    true = map_from_cam.clone()
    true[:3, 3] += error[:3]
    true[:3, :3] = true[:3, :3] @ rotation_from_axis_angle(error[3:])
    estimated_child, true_child = map_from_cam @ cam_from_child, true @ cam_from_child
    turn = rotation_vector(true_child[:3, :3] @ estimated_child[:3, :3].T)
    return torch.cat([true_child[:3, 3] - estimated_child[:3, 3], turn])


@pytest.mark.parametrize(
    "cam_from_child", [torch.eye(4).double(), pose((1.2, -1.2, 1.2), (0.3, 0.5, -0.8))]
)
def test_covariance_is_that_of_the_child_about_the_axes_of_the_map(cam_from_child: Tensor) -> None:
    map_from_cam = POSES[0]
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = root @ root.T
    steps = STEP * torch.eye(6, dtype=torch.float64)
    effects = [
        moved_child(e, map_from_cam, cam_from_child) - moved_child(-e, map_from_cam, cam_from_child)
        for e in steps
    ]
    jacobian = torch.stack(effects, dim=1) / (2 * STEP)
    result = pose_covariance(covariance, map_from_cam, cam_from_child)
    np.testing.assert_allclose(
        np.reshape(result, (6, 6)), jacobian @ covariance @ jacobian.T, rtol=1e-6, atol=1e-6
    )
    assert np.array_equal(np.reshape(result, (6, 6)), np.reshape(result, (6, 6)).T)
    PoseWithCovariance(covariance=result)


@pytest.mark.parametrize(
    "unknown", [None, torch.full((6, 6), math.nan), torch.diag(torch.tensor([math.inf] * 6))]
)
def test_unknown_covariance_is_huge_and_not_zero(unknown: Tensor | None) -> None:
    result = np.reshape(pose_covariance(unknown, POSES[0], POSES[0]), (6, 6))
    np.testing.assert_array_equal(
        result, np.diag([UNKNOWN_POSITION_VARIANCE] * 3 + [UNKNOWN_ROTATION_VARIANCE] * 3)
    )


def test_path_has_each_pose_with_its_stamp() -> None:
    path = path_message(torch.stack(POSES), [5, 7, 6], "map")
    assert [stamp_ns(entry.header.stamp) for entry in path.poses] == [5, 7, 6]
    assert {path.header.frame_id, *(entry.header.frame_id for entry in path.poses)} == {"map"}
    assert stamp_ns(path.header.stamp) == 7
    for entry, expected in zip(path.poses, POSES, strict=True):
        np.testing.assert_allclose(pose_from_message(entry.pose), expected, atol=1e-9)


def test_path_of_nothing_is_empty() -> None:
    assert not path_message(torch.zeros(0, 4, 4), [], "map").poses


@pytest.fixture
def scene() -> Scene:
    return build_scene(2.0)


def test_scene_is_described_in_the_units_of_the_map(scene: Scene) -> None:
    info = scene_info(
        dataclasses.replace(scene, bounds=((-1.0, 0.0, 1.0), (2.0, 3.0, 16.0))), "/scenes/one", 9
    )
    assert (info.scene_id, info.path, info.created) == (
        scene.scene_id,
        "/scenes/one",
        scene.created,
    )
    assert (info.header.frame_id, stamp_ns(info.header.stamp)) == ("map", 9)
    assert (info.keyframes, info.landmarks, info.verified) == (3, 0, False)
    assert info.verification == "there are no landmarks"
    assert (
        info.metric
        and info.metric_source == "pose_priors"
        and info.metric_residual == pytest.approx(2 / 3)
    )
    low, high = info.bounds_min, info.bounds_max
    assert [low.x, low.y, low.z, high.x, high.y, high.z] == [-1, 0, 1, 2, 3, 16]


def test_unknown_residual_is_not_a_number(scene: Scene) -> None:
    info = scene_info(
        dataclasses.replace(scene, is_metric=False, metric_residual_m=None, metric_source="none"),
        "p",
        0,
    )
    assert math.isnan(info.metric_residual) and not info.metric


def test_landmarks_are_counted(scene: Scene) -> None:
    verdict = MapVerdict(True, "they agree")
    calibration = MapCalibration(((640, 480),) * 3, focal_factor=1.0, depth_scale=2.0)
    landmarks = {
        "positions": torch.zeros(17, 3),
        "world_from_cam": torch.eye(4).repeat(3, 1, 1).double(),
    }
    known = dataclasses.replace(
        scene, landmarks=landmarks, verdict=verdict, calibration=calibration
    )
    info = scene_info(known, "p", 0)
    assert (info.landmarks, info.verified, info.verification) == (17, True, "they agree")
