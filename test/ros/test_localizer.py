"""The localizer as a process of its own: which poses and transforms it publishes, and which it
withholds.
"""

from __future__ import annotations

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray

from vggt3_ros.geometry.se3 import se3, se3_inverse
from vggt3_ros.msg import LocalizationStatus as Status

from .localizer_client import LIMIT_M, QUERIES, LocalizerClient, known, scene, transforms, visit
from .processes import wait_for
from .robot import CAMERA, Robot


def test_before_any_scene_it_says_so_and_goes_on(localizer: LocalizerClient) -> None:
    localizer.start()
    robot = Robot(localizer.node, visit())
    robot.wait_until_connected()
    robot.calibrate()
    status = localizer.heard.status_of(robot.show(0))
    robot.destroy()
    assert status.state == Status.UNINITIALIZED and not status.pose_published
    assert "there is no scene yet" in status.reason


def test_poses_are_published_once_two_agree(localizer: LocalizerClient, robot: Robot) -> None:
    statuses = localizer.attempts(robot, QUERIES)
    assert [status.pose_published for status in statuses[:2]] == [False, True]
    assert "1 of 2 poses that must agree" in statuses[0].reason
    assert sum(status.pose_published for status in statuses) >= 6
    assert all(status.metric and status.child_frame_id == "base_link" for status in statuses)
    assert all(status.inliers > 20 for status in statuses if status.pose_published)
    localizer.assert_right(robot, statuses, QUERIES)
    pose = localizer.pose_of(statuses[1])
    covariance = np.array(pose.pose.covariance).reshape(6, 6)
    assert pose.header.frame_id == "map"
    assert (np.linalg.eigvalsh(covariance) > 0).all() and covariance.trace() < 0.1


def test_images_that_show_too_little_are_localized_together(
    localizer: LocalizerClient, robot: Robot
) -> None:
    through = [np.zeros_like(visit().images[i]) for i in QUERIES[:3]]
    for image, index, left in zip(through, QUERIES, (120, 40, 200), strict=False):
        # four cells, through whatever covers the lens
        window = (slice(80, 160), slice(left, left + 80))
        image[window] = visit().images[index][window]
    for together in (True, False):
        assert localizer.set({"joint_images": 4 if together else 1}) == ""
        localizer.load(localizer.folder / scene().scene_id)  # which begins anew
        shown = zip(QUERIES, through, strict=False)
        statuses = [
            localizer.heard.status_of(robot.show(index, image=image)) for index, image in shown
        ]
        assert [status.pose_published for status in statuses] == [False, False, together]
        assert ("images and the odometry between them" in statuses[2].reason) == together
        assert ("cells of the image" in statuses[2].reason) != together
        localizer.assert_right(robot, statuses, QUERIES[:3])
    assert localizer.set({"joint_images": 1}) == ""


def test_transform_from_map_to_odometry_follows_its_drift(
    localizer: LocalizerClient, robot: Robot
) -> None:
    robot.odom_from_map = se3(
        torch.eye(3, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.1], dtype=torch.float64)
    )
    ahead: list[int] = []  # nanoseconds from when each came to its date

    def watch(parent: str, child: str, stamp: int, static: bool) -> None:
        if (parent, child) == ("map", "odom"):
            ahead.append(stamp - localizer.node.get_clock().now().nanoseconds)

    with transforms(localizer) as buffer:
        buffer.watcher = watch
        statuses = localizer.attempts(robot, QUERIES[:4])
        assert statuses[-1].tf == "map -> odom"
        wait_for(lambda: any(each > 300_000_000 for each in ahead), "map -> odom, dated ahead")
        # Nothing is known before the date of the first, which is ahead by transform_tolerance.
        stamp = robot.now() + 1_000_000_000
        wait_for(lambda: known(buffer, "map", "odom", stamp) is not None, "map -> odom")
        map_from_odom = buffer.lookup("map", "odom", stamp)
    assert torch.allclose(
        map_from_odom @ robot.odom_from_map, torch.eye(4, dtype=torch.float64), atol=LIMIT_M
    )


def test_transform_holds_when_no_image_comes(localizer: LocalizerClient, robot: Robot) -> None:
    with transforms(localizer) as buffer:
        localizer.attempts(robot, QUERIES[:3])
        # what is repeated of the attempt before is dated earlier
        settled = robot.now() + 1_000_000_000
        late = settled + 2_000_000_000  # far beyond transform_tolerance
        held = "map -> odom, two seconds later"
        wait_for(lambda: known(buffer, "map", "odom", late) is not None, held)
    moved = buffer.lookup("map", "odom", late) @ se3_inverse(buffer.lookup("map", "odom", settled))
    assert torch.allclose(moved, torch.eye(4, dtype=torch.float64), atol=1e-6)


def test_without_odometry_there_are_poses_but_no_transform(
    localizer: LocalizerClient, robot: Robot
) -> None:
    index = QUERIES[1]
    statuses = localizer.attempts(robot, [index] * 4, odometry=False)
    assert statuses[-1].pose_published and statuses[-1].tf.startswith("nothing")
    localizer.assert_right(robot, statuses, [index] * 4)


def test_diagnostics_tell_the_state(localizer: LocalizerClient, robot: Robot) -> None:
    heard: list[DiagnosticArray] = []
    subscription = localizer.node.create_subscription(
        DiagnosticArray, "/diagnostics", heard.append, 10
    )

    def told() -> bool:
        localizer.attempts(robot, QUERIES[:2])
        statuses = [status for message in tuple(heard) for status in message.status]
        return any(s.message.startswith("localized") and s.level == b"\0" for s in statuses)

    wait_for(told, "diagnostics that say localized")
    localizer.node.destroy_subscription(subscription)


def test_camera_frame_without_extrinsics_gives_no_pose_and_says_what_to_do(
    localizer: LocalizerClient, robot: Robot
) -> None:
    seen_by = {"change": lambda image: setattr(image.header, "frame_id", "new_camera")}
    status = localizer.attempts(robot, [QUERIES[0]], **seen_by)[0]
    assert not status.pose_published
    assert "base_from_camera" in status.reason and "new_camera" in status.reason
    assert CAMERA not in status.child_frame_id


def test_it_ends_with_zero(localizer: LocalizerClient) -> None:
    assert localizer.process.is_running
    assert localizer.process.stop() == 0
