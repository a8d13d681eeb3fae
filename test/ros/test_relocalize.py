"""A robot that is to be found anew: what the localizer forgets, and what it answers."""

from __future__ import annotations

import re

import numpy as np
from rclpy.task import Future
from std_srvs.srv import Trigger

from vggt3_ros.msg import LocalizationStatus as Status

from ..patience import PATIENCE_S
from .localizer_client import LIMIT_M, QUERIES, LocalizerClient, transforms
from .processes import wait_for
from .robot import Robot


def answer_of(future: Future) -> Trigger.Response:
    """Its answer, once it has come."""
    wait_for(future.done, "the answer of relocalize_and_wait")
    answer = future.result()
    assert answer is not None
    return answer


def asked(localizer: LocalizerClient) -> Future:
    """The answer to come of relocalize_and_wait, once the localizer has forgotten the place."""
    before = localizer.process.log.count("forgotten by relocalize")
    future = localizer.relocalize_and_wait()
    wait_for(
        lambda: localizer.process.log.count("forgotten by relocalize") > before, "it to forget"
    )
    return future


def test_place_and_transform_are_forgotten_until_poses_agree_again(
    localizer: LocalizerClient, robot: Robot
) -> None:
    assert localizer.attempts(robot, QUERIES[:3])[-1].state == Status.LOCALIZED
    localizer.relocalize()
    wait_for(
        lambda: localizer.heard.localizer[-1].state == Status.UNINITIALIZED, "the place forgotten"
    )
    sent: list[int] = []
    with transforms(localizer) as buffer:
        buffer.watcher = lambda parent, child, stamp, static: (
            sent.append(stamp) if (parent, child) == ("map", "odom") else None
        )
        statuses = localizer.attempts(robot, QUERIES[3:4])
        assert not statuses[0].pose_published and statuses[0].tf.startswith("nothing: ")
        assert "1 of 2 poses that must agree" in statuses[0].reason
        assert not sent, "the transform of the forgotten place"
        statuses += localizer.attempts(robot, QUERIES[4:6])
    assert statuses[-1].state == Status.LOCALIZED and statuses[-1].tf == "map -> odom"
    localizer.assert_right(robot, statuses, QUERIES[3:6])


def test_answer_says_where_the_robot_was_found(localizer: LocalizerClient, robot: Robot) -> None:
    localizer.attempts(robot, QUERIES[:3])
    assert localizer.set({"relocalize_timeout": PATIENCE_S}) == ""
    answers = [asked(localizer), localizer.relocalize_and_wait()]  # of two who want to know
    tried = []
    for index in QUERIES[3:7]:
        tried.append(index)
        localizer.attempts(robot, [index])
        if answers[1].done():  # perhaps of an image before: an answer takes its time
            break
    first, second = (answer_of(each) for each in answers)
    assert first.success and second.success
    place = re.match(
        r"base_link is at \((.*)\), yaw (.*) degrees, in map; found in ", first.message
    )
    assert place is not None, first.message
    position = np.array([float(word) for word in place.group(1).split(",")])
    truths = [robot.true_pose(index).numpy() for index in tried]
    truth = min(truths, key=lambda pose: float(np.linalg.norm(position - pose[:3, 3])))
    assert np.linalg.norm(position - truth[:3, 3]) < LIMIT_M + 0.01
    turned = float(place.group(2)) - np.degrees(np.arctan2(truth[1, 0], truth[0, 0]))
    assert abs((turned + 180) % 360 - 180) < 3
    assert "landmarks" in first.message


def test_robot_that_is_not_found_is_answered_in_time_with_the_reason(
    localizer: LocalizerClient, robot: Robot
) -> None:
    localizer.attempts(robot, QUERIES[:3])
    assert localizer.set({"relocalize_timeout": 1.0}) == ""
    answer = answer_of(localizer.relocalize_and_wait())
    assert not answer.success
    assert "not found in 0 images" in answer.message and "no image has come" in answer.message
    assert localizer.set({"relocalize_timeout": 3.0}) == ""
    waiting = asked(localizer)
    localizer.attempts(robot, [QUERIES[3]], image=np.zeros_like(robot.visit.images[0]))
    answer = answer_of(waiting)
    assert not answer.success and "the image is black" in answer.message
    assert localizer.attempts(robot, QUERIES[3:5])[-1].pose_published, "it goes on searching"


def test_what_makes_waiting_vain_is_answered_at_once(
    localizer: LocalizerClient, robot: Robot
) -> None:
    assert localizer.trigger("pause").success
    answer = answer_of(localizer.relocalize_and_wait())
    assert not answer.success and "localizer/resume" in answer.message
    localizer.start(relocalize_timeout=3600.0)
    answer = answer_of(localizer.relocalize_and_wait())
    assert not answer.success and "there is no scene yet" in answer.message


def test_a_localizer_that_stops_answers_those_who_wait(
    localizer: LocalizerClient, robot: Robot
) -> None:
    localizer.attempts(robot, QUERIES[:3])
    waiting = asked(localizer)
    assert localizer.transition("deactivate")
    answer = answer_of(waiting)
    assert not answer.success and "activate it" in answer.message
    localizer.relocalize()
    assert "relocalize is ignored: the localizer is not active" in localizer.process.log
    answer = answer_of(localizer.relocalize_and_wait())
    assert not answer.success and "activate it" in answer.message
