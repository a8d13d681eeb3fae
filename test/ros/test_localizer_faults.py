"""The localizer survives what happens to robots: covered lenses, kidnapping, jumps of odometry and
clock, garbage.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image

from vggt3_ros.geometry.se3 import se3
from vggt3_ros.msg import LocalizationStatus as Status
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.worlds.sequence import room_sequence

from .localizer_client import LOST_AFTER_S, QUERIES, LocalizerClient
from .processes import wait_for
from .robot import Robot


def test_covered_lens_leads_to_uncertain_then_lost_and_back(
    localizer: LocalizerClient, robot: Robot
) -> None:
    localizer.attempts(robot, QUERIES[:3])
    black = np.zeros_like(robot.visit.images[0])
    first = localizer.attempts(robot, [QUERIES[3]], image=black)[0]
    assert first.state == Status.UNCERTAIN and "black" in first.reason
    assert "frozen" in first.tf
    time.sleep(LOST_AFTER_S + 0.2)
    last = localizer.attempts(robot, [QUERIES[3]], image=black)[0]
    assert last.state == Status.LOST and not last.pose_published
    back = localizer.attempts(robot, QUERIES[3:6])
    assert back[-1].state == Status.LOCALIZED
    localizer.assert_right(robot, back, QUERIES[3:6])


def test_another_room_is_never_taken_for_this_one(localizer: LocalizerClient, robot: Robot) -> None:
    other_room = room_sequence(900_012, 4, 4)
    localizer.attempts(robot, QUERIES[:3])
    statuses = [
        localizer.attempts(robot, [QUERIES[3]], image=image)[0] for image in other_room.images
    ]
    assert not any(status.pose_published for status in statuses)
    assert all(status.state in (Status.UNCERTAIN, Status.LOST) for status in statuses)


def test_kidnapped_camera_is_found_again(localizer: LocalizerClient, robot: Robot) -> None:
    """Odometry does not notice that somebody carried the robot to another place."""
    localizer.attempts(robot, QUERIES[:3])
    visit = robot.visit
    far = max(
        QUERIES,
        key=lambda i: float((visit.world_from_cam[i] - visit.world_from_cam[QUERIES[2]]).norm()),
    )
    here = robot.true_pose(QUERIES[2])
    robot.odom_from_map = here @ torch.linalg.inv(robot.true_pose(far))
    statuses = localizer.attempts(robot, [far] * 4)
    assert not statuses[0].pose_published
    assert statuses[-1].pose_published
    localizer.assert_right(robot, statuses, [far] * 4)


def test_jump_of_the_odometry_is_survived(localizer: LocalizerClient, robot: Robot) -> None:
    localizer.attempts(robot, QUERIES[:3])
    robot.odom_from_map = se3(
        torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    )
    statuses = localizer.attempts(robot, QUERIES[3:7])
    assert statuses[-1].state == Status.LOCALIZED and statuses[-1].tf == "map -> odom"
    localizer.assert_right(robot, statuses, QUERIES[3:7])


def test_stamps_that_run_backwards_are_left_out(localizer: LocalizerClient, robot: Robot) -> None:
    good = localizer.attempts(robot, QUERIES[:3])
    dropped = good[-1].frames_dropped
    late = localizer.heard.status_of(
        robot.show(QUERIES[3], stamp=stamp_ns(good[-1].header.stamp) - 100_000_000)
    )
    assert "before that of the image before" in late.reason and late.frames_dropped == dropped + 1
    again = localizer.attempts(robot, QUERIES[3:5])
    assert again[-1].state == Status.LOCALIZED


def test_clock_that_is_set_back_starts_over(localizer: LocalizerClient, robot: Robot) -> None:
    """As when a bag is played again: minutes back."""
    begin = stamp_ns(localizer.attempts(robot, QUERIES[:3])[-1].header.stamp) - 120 * 10**9
    statuses = [
        localizer.heard.status_of(robot.show(index, stamp=begin + number * 300_000_000))
        for number, index in enumerate(QUERIES[:4])
    ]
    assert not statuses[0].pose_published and statuses[-1].pose_published
    localizer.assert_right(robot, statuses, QUERIES[:4])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda image: setattr(image, "encoding", "rgb42"), "rgb42"),
        (lambda image: setattr(image, "data", image.data[:1000]), "1000"),
        (lambda image: setattr(image.header, "frame_id", ""), "frame_id"),
        (lambda image: setattr(image, "step", 10), "step"),
    ],
)
def test_garbage_is_survived(
    localizer: LocalizerClient, robot: Robot, damage: object, reason: str
) -> None:
    localizer.attempts(robot, QUERIES[:2])
    bad = localizer.attempts(robot, [QUERIES[2]], change=damage)[0]
    assert not bad.pose_published and reason in bad.reason + bad.last_drop_reason
    good = localizer.attempts(robot, QUERIES[2:4])
    assert good[-1].pose_published


def test_camera_that_stops_makes_it_lost_and_is_found_when_it_starts_again(
    localizer: LocalizerClient, robot: Robot
) -> None:
    localizer.attempts(robot, QUERIES[:3])
    lost = wait_for(
        lambda: [s for s in localizer.heard.localizer[-1:] if s.state == Status.LOST], "LOST"
    )[0]
    assert "no image has come" in lost.reason and not lost.pose_published
    why = [
        line
        for line in localizer.process.log.splitlines()
        if "LOST: no pose has agreed for" in line
    ][-1]
    assert why.endswith("; no image has come")
    back = localizer.attempts(robot, QUERIES[3:6])
    assert back[-1].state == Status.LOCALIZED and back[-1].pose_published
    localizer.assert_right(robot, back, QUERIES[3:6])


def _stamped_with_nothing(image: Image) -> None:
    image.header.stamp = Time()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("frozen", "before that of the image before"),
        ("none", "has no stamp"),
        ("unusable", "rgb42"),
    ],
)
def test_images_whose_stamps_tell_no_time_lose_the_robot_too(
    localizer: LocalizerClient, robot: Robot, fault: str, reason: str
) -> None:
    logged = len(localizer.process.log)
    stamp = stamp_ns(localizer.attempts(robot, QUERIES[:3])[-1].header.stamp)
    options: dict[str, Any] = {
        "frozen": {"stamp": stamp, "odometry": False},
        "none": {"change": _stamped_with_nothing},
        "unusable": {"change": lambda image: setattr(image, "encoding", "rgb42")},
    }[fault]
    heard, begin = localizer.heard.localizer, len(localizer.heard.localizer)

    def is_lost() -> bool:
        robot.show(QUERIES[3], **options)
        time.sleep(0.1)
        return heard[-1].state == Status.LOST

    wait_for(is_lost, "LOST")
    assert all(status.tf.startswith("map -> odom, frozen: ") for status in heard[begin:])
    again = localizer.attempts(robot, QUERIES[3:6])
    assert again[-1].state == Status.LOCALIZED and again[-1].tf == "map -> odom"
    log = localizer.process.log[logged:]
    assert [log.count("LOCALIZED: "), log.count("LOST: ")] == [2, 1]
    assert reason in next(
        line for line in log.splitlines() if "LOST: no pose has agreed for" in line
    )


def test_the_last_seconds_that_a_stamp_can_tell_are_survived(
    localizer: LocalizerClient, robot: Robot
) -> None:
    end = 2**31 * 10**9
    statuses = [
        localizer.heard.status_of(robot.show(QUERIES[i], stamp=end - (4 - i) * 10**8))
        for i in range(4)
    ]
    assert statuses[-1].pose_published and statuses[-1].tf.startswith("nothing: stamp of")
    assert localizer.attempts(robot, QUERIES[:3])[-1].tf == "map -> odom", (
        "afterwards, the right time again"
    )
    localizer.is_sound()


def test_camera_that_changes_its_resolution_is_followed(
    localizer: LocalizerClient, robot: Robot
) -> None:
    """A driver that was started anew with binned images, and the calibration that goes with
    them.
    """
    localizer.attempts(robot, QUERIES[:3])
    binned = robot.visit.images.reshape(-1, 120, 2, 160, 2, 3).mean((2, 4)).astype(np.uint8)
    statuses = [
        localizer.attempts(robot, [index], image=binned[index])[0] for index in QUERIES[3:7]
    ]
    assert sum(status.pose_published for status in statuses) >= 2
    localizer.assert_right(robot, statuses, QUERIES[3:7])
    again = localizer.attempts(robot, QUERIES[3:7])
    assert again[-1].pose_published
    localizer.assert_right(robot, again, QUERIES[3:7])
