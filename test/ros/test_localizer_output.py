"""What the localizer publishes as its parameters say: transforms of three kinds, unmetric and
unverified poses.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from vggt3_ros.geometry.se3 import se3, se3_inverse
from vggt3_ros.msg import LocalizationStatus as Status
from vggt3_ros.nodes.messages.camera_info import camera_from_info
from vggt3_ros.nodes.messages.conversions import header, pose_message, stamp_ns, time_message
from vggt3_ros.nodes.messages.images import depth_from_message
from vggt3_ros.nodes.messages.qos import STATUS
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.scene.storage import save_scene
from vggt3_ros.srv import LoadScene

from .localizer_client import (
    LIMIT_M,
    QUERIES,
    LocalizerClient,
    known,
    running_localizer,
    scene,
    scene_without_scale,
    transforms,
)
from .processes import wait_for
from .robot import BASE_FROM_CAM, CAMERA

LONELY: dict[str, Any] = {"change": lambda image: setattr(image.header, "frame_id", "lonely")}
# without odometry, a camera that jumps from image to image is not believed
STILL = [QUERIES[1]] * 6
UNIT = torch.eye(4, dtype=torch.float64)


def test_a_camera_by_itself_is_placed_in_the_map(localizer: LocalizerClient) -> None:
    localizer.start(base_frame="", odometry_source="none", tf_mode="map_to_camera")
    with localizer.meet() as robot, transforms(localizer) as buffer:
        statuses = localizer.attempts(robot, STILL, odometry=False, **LONELY)
        assert statuses[-1].tf == "map -> lonely" and statuses[-1].child_frame_id == "lonely"
        stamp = stamp_ns(statuses[-1].header.stamp)
        seen = wait_for(lambda: buffer.parent_of("lonely"), "map -> lonely")
        assert seen == "map"
        wait_for(
            lambda: known(buffer, "map", "lonely", stamp) is not None,
            "the transform of the last image",
        )
        off = buffer.lookup("map", "lonely", stamp) - robot.visit.world_from_cam[STILL[0]]
        assert float(off[:3, 3].norm()) < LIMIT_M


def test_a_camera_that_hangs_on_a_robot_is_not_torn_off(localizer: LocalizerClient) -> None:
    localizer.start(tf_mode="map_to_camera")
    with localizer.meet() as robot, transforms(localizer) as buffer:
        statuses = localizer.attempts(robot, QUERIES[:3])
        assert statuses[-1].pose_published
        assert (
            statuses[-1].tf
            == f"nothing: {CAMERA!r} hangs from 'base_link' already; use tf_mode map_to_odom"
        )
        assert buffer.parent_of(CAMERA) == "base_link"


def test_no_transform_where_none_is_wanted(localizer: LocalizerClient) -> None:
    localizer.start(tf_mode="none")
    with localizer.meet() as robot, transforms(localizer) as buffer:
        statuses = localizer.attempts(robot, QUERIES[:3])
        assert statuses[-1].pose_published and statuses[-1].tf == "nothing, because tf_mode is none"
        wait_for(lambda: buffer.parent_of("base_link"), "the robot's odometry")
        assert buffer.parent_of("odom") is None


@pytest.mark.parametrize("told", [False, True])
def test_without_a_scale_there_is_no_transform_unless_asked_for(
    localizer: LocalizerClient, told: bool
) -> None:
    localizer.start(tf_mode="map_to_camera", unmetric_tf=told)
    with localizer.meet(scene_without_scale()) as robot:
        statuses = localizer.attempts(robot, STILL, **LONELY)
        published = [status for status in statuses if status.pose_published]
        assert len(published) >= 3
        assert all(not status.metric and status.child_frame_id == "lonely" for status in published)
        said = {status.tf for status in published}
        assert said == (
            {"map -> lonely"}
            if told
            else {"nothing: the scene has no scale, and unmetric_tf is false"}
        )


def test_odometry_is_never_corrected_in_a_map_without_a_scale(localizer: LocalizerClient) -> None:
    localizer.start(unmetric_tf=True)
    with localizer.meet(scene_without_scale()) as robot, transforms(localizer) as buffer:
        statuses = localizer.attempts(robot, STILL)
        assert any(status.pose_published for status in statuses)
        assert {status.tf for status in statuses} == {
            "nothing: the scene has no scale, and odometry is in metres"
        }
        assert buffer.parent_of("odom") is None


@pytest.mark.parametrize("wanted", [False, True])
def test_unverified_poses_are_published_if_wanted_and_claim_nothing(
    localizer: LocalizerClient, wanted: bool
) -> None:
    localizer.start(refine="none", publish_unverified=wanted)
    with localizer.meet() as robot:
        status = localizer.attempts(robot, QUERIES[:2])[-1]
        assert status.pose_published is wanted and status.state == Status.UNINITIALIZED
        assert "not verified" in status.reason and status.tf.startswith("nothing")
        if wanted:
            assert min(localizer.pose_of(status).pose.covariance[::7]) > 9


def test_what_keyframes_propose_is_published_if_wanted_where_landmarks_refuse(
    localizer: LocalizerClient,
) -> None:
    """As they do here, where the network's poses must be right by themselves."""
    localizer.start(refine="verify", propose="both", neighbours=3, publish_unverified=True)
    with localizer.meet() as robot:
        statuses = localizer.attempts(robot, QUERIES[:2])
        assert all(status.pose_published for status in statuses)
        for status in statuses:
            assert "; the pose is unverified, proposed from 3 keyframes like it" in status.reason
            assert min(localizer.pose_of(status).pose.covariance[::7]) > 9


def test_a_scene_without_images_is_refused_where_keyframes_alone_shall_propose(
    localizer: LocalizerClient, tmp_path: Path
) -> None:
    bare = save_scene(replace(scene(), images=None), tmp_path / "bare")
    localizer.start(propose="local")
    answer = localizer.load(bare)
    assert answer.code == LoadScene.Response.INVALID and "keep_images" in answer.message
    localizer.start(propose="both")
    answer = localizer.load(bare)
    assert answer.code == LoadScene.Response.SUCCESS
    assert "only its memory proposes poses" in answer.message


def test_where_poses_are_verified_only_nothing_wrong_is_published(
    localizer: LocalizerClient,
) -> None:
    """The embedded network's own poses are decimetres off: landmarks must not confirm them."""
    localizer.start(refine="verify")
    with localizer.meet() as robot:
        statuses = localizer.attempts(robot, QUERIES)
        localizer.assert_right(robot, statuses, QUERIES)
        assert any("landmarks" in status.reason for status in statuses)


def test_refined_depth_is_published_with_its_camera(localizer: LocalizerClient) -> None:
    localizer.start(refine_depth=True)
    depths: list[Image] = []
    cameras: list[CameraInfo] = []
    heard = [
        localizer.node.create_subscription(
            Image, "localizer/depth/image_rect", depths.append, STATUS
        ),
        localizer.node.create_subscription(
            CameraInfo, "localizer/depth/camera_info", cameras.append, STATUS
        ),
    ]
    with localizer.meet() as robot:
        statuses = localizer.attempts(robot, QUERIES[:3])
        published = [stamp_ns(status.header.stamp) for status in statuses if status.pose_published]
        wait_for(
            lambda: len(cameras) == len(depths) == len(published) > 0,
            "the depth of published poses",
        )
        assert [stamp_ns(each.header.stamp) for each in depths] == published and statuses[
            2
        ].pose_published
        intrinsics, distortion = camera_from_info(
            cameras[-1], (depths[-1].height, depths[-1].width)
        )
        assert distortion is None and depths[-1].header == cameras[-1].header
        assert depths[-1].header.frame_id == CAMERA
        visit, last = robot.visit, QUERIES[2]
        frame = Frame(visit.images[last], intrinsics=visit.intrinsics, depth=visit.depth[last])
        prepared = prepare([frame], 96, 8)
        assert prepared.depth is not None and prepared.intrinsics is not None
        metres = depth_from_message(depths[-1])
        assert np.mean(metres > 0) > 0.6
        assert np.median(np.abs(metres / prepared.depth[0].numpy() - 1)[metres > 0]) < 0.02
        torch.testing.assert_close(intrinsics, prepared.intrinsics[0], rtol=0.01, atol=0.01)
    for subscription in heard:
        localizer.node.destroy_subscription(subscription)


def test_odometry_of_a_topic_counts_and_that_of_tf_does_not(localizer: LocalizerClient) -> None:
    localizer.start(odometry_source="topic")
    publisher = localizer.node.create_publisher(Odometry, "odom", 10)
    with localizer.meet() as robot, transforms(localizer) as buffer:
        wait_for(publisher.get_subscription_count, "the localizer to listen to odometry")
        # on /tf
        robot.odom_from_map = se3(UNIT[:3, :3], torch.tensor([5.0, 0.0, 0.0], dtype=torch.float64))
        for index in QUERIES[:4]:
            stamp = robot.now()
            message = Odometry(header=header("odom", stamp), child_frame_id="base_link")
            message.pose.pose = pose_message(
                robot.visit.world_from_cam[index] @ se3_inverse(BASE_FROM_CAM)
            )
            publisher.publish(message)
            status = localizer.heard.status_of(robot.show(index, stamp=stamp))
        assert status.tf == "map -> odom"
        ahead = robot.now() + 1_000_000_000  # later than the first is dated
        wait_for(lambda: known(buffer, "map", "odom", ahead) is not None, "map -> odom")
        torch.testing.assert_close(buffer.lookup("map", "odom", ahead), UNIT, rtol=0, atol=LIMIT_M)
    localizer.node.destroy_publisher(publisher)


def test_in_simulation_the_transform_is_dated_by_the_clock(
    localizer: LocalizerClient, tmp_path: Path
) -> None:
    """It is repeated while the simulation stands still, but does not run ahead of it. The clock may
    begin late.
    """
    localizer.forget()  # of two that publish map -> odom, one is too many
    begin = 1_000_000_000_000
    with running_localizer(tmp_path, "/simulated", use_sim_time=True) as localizer:
        clock = localizer.node.create_publisher(Clock, "/clock", 10)
        localizer.start()
        wait_for(clock.get_subscription_count, "the localizer to listen to the clock")
        with localizer.meet() as robot, transforms(localizer) as buffer:
            for number, index in enumerate(QUERIES[:2]):  # before there is a clock
                stamp = begin - (10 - number) * 100_000_000
                status = localizer.heard.status_of(robot.show(index, stamp=stamp))
            assert status.tf == "map -> odom"
            for number, index in enumerate(QUERIES[:4]):
                stamp = begin + number * 100_000_000
                clock.publish(Clock(clock=time_message(stamp)))
                status = localizer.heard.status_of(robot.show(index, stamp=stamp))
            assert status.tf == "map -> odom"
            wait_for(
                lambda: known(buffer, "map", "odom", stamp + 400_000_000) is not None,
                "map -> odom",
            )
            later = stamp + 1_500_000_000
            assert known(buffer, "map", "odom", later) is None
            clock.publish(Clock(clock=time_message(stamp + 1_200_000_000)))
            wait_for(
                lambda: known(buffer, "map", "odom", later) is not None,
                "map -> odom after the clock went on",
            )
