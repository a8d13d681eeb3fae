from __future__ import annotations

from typing import Any

import pytest
import torch

from vggt3_ros.pipeline.localization import Localization
from vggt3_ros.pipeline.tracking import Tracker, TrackingSettings, TrackingState

from .drives import (
    ODOM,
    PRECISE,
    WAY,
    Dice,
    at,
    attempt,
    deviations,
    displaced,
    failure,
    good,
    localized,
    pose_at,
    unverified,
    verified,
)

UNINITIALIZED, LOCALIZED = TrackingState.UNINITIALIZED, TrackingState.LOCALIZED
UNCERTAIN, LOST = TrackingState.UNCERTAIN, TrackingState.LOST

both = pytest.mark.parametrize("odometry", [True, False], ids=["odometry", "no odometry"])


# -- becoming localized
# --------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("confirmations", [1, 2, 3])
def test_poses_are_published_once_so_many_in_a_row_agree(
    confirmations: int, odometry: bool
) -> None:
    tracker = Tracker(TrackingSettings(confirmations=confirmations))
    assert tracker.state is UNINITIALIZED and tracker.map_from_odom is None
    tracked = [attempt(tracker, i, good(i), odometry) for i in range(5)]
    assert [each.publish for each in tracked] == [i >= confirmations - 1 for i in range(5)]
    for each in tracked:
        has_pose = each.map_from_cam is not None and each.covariance is not None
        assert each.publish is (each.state is LOCALIZED) is has_pose
        assert (each.map_from_odom is not None) is (each.publish and odometry)


@both
def test_two_poses_that_contradict_each_other_confirm_nothing(odometry: bool) -> None:
    tracker = Tracker()
    for i in range(8):
        tracked = attempt(tracker, i, verified(pose_at(0.0 if i % 2 else 5.0), PRECISE), odometry)
        assert tracked.state is UNINITIALIZED and not tracked.publish
    assert "1 of 2" in tracker.reason


def test_a_failure_between_two_agreeing_poses_starts_the_count_again() -> None:
    tracker = Tracker()
    outcomes = [good(0), failure(), good(2), unverified(WAY[3]), good(4), good(5)]
    states = [attempt(tracker, i, each).state for i, each in enumerate(outcomes)]
    assert states == [UNINITIALIZED] * 5 + [LOCALIZED]


def test_without_odometry_a_turn_too_fast_is_no_confirmation() -> None:
    tracker = Tracker()
    for i in range(6):
        tracked = attempt(
            tracker, i, verified(pose_at(0, yaw=1.0 * (i % 2)), PRECISE), odometry=False
        )
    assert tracked.state is UNINITIALIZED


def test_without_odometry_poses_further_apart_than_lost_after_confirm_nothing() -> None:
    tracker = Tracker(TrackingSettings(lost_after_s=0.5))
    assert [attempt(tracker, i, good(i), odometry=False).publish for i in range(0, 60, 10)] == [
        False
    ] * 6
    with_odometry = Tracker(TrackingSettings(lost_after_s=0.5))
    assert [attempt(with_odometry, i, good(i)).publish for i in range(0, 60, 10)] == [False] + [
        True
    ] * 5


@pytest.mark.parametrize(
    "make", [lambda i: unverified(WAY[i]), lambda i: failure()], ids=["unverified", "failures"]
)
def test_what_is_not_verified_never_localizes(make: Any) -> None:
    tracker = Tracker()
    assert [attempt(tracker, i, make(i)).state for i in range(30)] == [UNINITIALIZED] * 30
    known = localized()
    states = [attempt(known, i, make(i)).state for i in range(5, 40)]
    assert set(states) == {UNCERTAIN, LOST} and states[0] is UNCERTAIN and states[-1] is LOST
    assert make(0).reason in known.reason


# -- staying localized
# --------------------------------------------------------------------------------------------------


@both
def test_a_single_failure_makes_uncertain_and_the_next_agreeing_pose_localized_again(
    odometry: bool,
) -> None:
    tracker = localized(odometry)
    before = tracker.map_from_odom
    failed = attempt(tracker, 5, failure("the image is blurred"), odometry)
    assert failed.state is UNCERTAIN and not failed.publish and failed.map_from_cam is None
    assert failed.map_from_odom is before and "blurred" in failed.reason
    again = attempt(tracker, 6, good(6), odometry)
    assert again.state is LOCALIZED and again.publish


@both
def test_one_wrong_pose_among_good_ones_is_never_published(odometry: bool) -> None:
    tracker = Tracker()
    for i in range(60):
        wrong = i % 7 == 3
        pose = pose_at(WAY[i][0, 3] + 1.0 * (-1) ** i, yaw=0.1) if wrong else WAY[i]
        tracked = attempt(tracker, i, verified(pose, PRECISE), odometry)
        assert tracked.publish is (i > 0 and not wrong)
        if wrong:
            assert tracked.state is UNCERTAIN and "the pose lies" in tracked.reason
        elif tracked.map_from_cam is not None:
            torch.testing.assert_close(tracked.map_from_cam, WAY[i], rtol=0, atol=1e-9)


@both
@pytest.mark.parametrize(("metres", "yaw"), [(0.3, 0.0), (0.0, 0.25)])
def test_a_pose_a_little_too_far_off_for_its_covariance_is_not_published(
    metres: float, yaw: float, odometry: bool
) -> None:
    tracker = localized(odometry)
    beyond = (1.0, 1.0) if odometry else (1.5, 1.8)  # what is plausible in 0.1 s comes on top
    wrong = pose_at(WAY[5][0, 3], beyond[0] * metres, beyond[1] * yaw)
    assert attempt(tracker, 5, verified(wrong, PRECISE), odometry).state is UNCERTAIN
    assert attempt(tracker, 6, good(6), odometry).publish


def test_wrong_poses_between_good_ones_never_confirm_each_other() -> None:
    tracker = localized()
    for i in range(5, 25):
        # all at the same wrong place, as odometry sees it
        wrong = verified(pose_at(WAY[i][0, 3], 2.0), PRECISE)
        tracked = attempt(tracker, i, wrong if i % 2 else good(i))
        assert tracked.publish is (i % 2 == 0)


@pytest.mark.parametrize(
    "interruption", [failure(), verified(pose_at(9.0), PRECISE)], ids=["failure", "wrong pose"]
)
def test_poses_before_an_interruption_do_not_count_after_a_pause(
    interruption: Localization,
) -> None:
    tracker = localized(settings=TrackingSettings(confirmations=3))
    attempt(tracker, 5, interruption)
    assert attempt(tracker, 6, good(6)).publish  # the first in a row
    assert [attempt(tracker, i, good(i)).publish for i in (50, 51)] == [False, True]


def test_no_vagueness_makes_a_pose_half_a_metre_off_agree() -> None:
    vague = deviations(1.0, 30.0)
    tracker = Tracker()
    for i in range(5):
        attempt(tracker, i, verified(WAY[i], vague))
    assert tracker.state is LOCALIZED
    assert attempt(tracker, 5, verified(pose_at(0.25 + 0.6), vague)).state is UNCERTAIN


def test_frozen_means_that_map_from_odom_stays_as_it_was_until_localized_again() -> None:
    tracker, dice = localized(), Dice(1)
    before = tracker.map_from_odom
    for i in range(5, 60):
        wrong = verified(pose_at(float(i)), PRECISE)
        tracked = attempt(tracker, i, [failure(), unverified(WAY[i]), wrong][i % 3])
        assert tracked.map_from_odom is before is tracker.map_from_odom
    assert tracker.state is LOST
    for i in range(60, 62):
        tracked = attempt(tracker, i, verified(dice.noisy(WAY[i], PRECISE), PRECISE))
    assert tracked.publish and tracked.map_from_odom is not before


# -- losing it, and finding it again
# --------------------------------------------------------------------------------------------------


@both
def test_without_agreement_for_too_long_the_robot_is_lost_and_starts_over(odometry: bool) -> None:
    tracker = localized(odometry)  # last agreement at attempt 4
    states = [attempt(tracker, i, failure("nothing to see"), odometry).state for i in range(5, 30)]
    assert states == [UNCERTAIN] * 20 + [LOST] * 5  # 2 s
    assert "nothing to see" in tracker.reason and "2.5 s" in tracker.reason
    tracked = [attempt(tracker, i, good(i), odometry) for i in range(30, 33)]
    assert [each.state for each in tracked] == [LOST, LOCALIZED, LOCALIZED]
    assert [each.publish for each in tracked] == [False, True, True]


def test_contradicting_poses_that_do_not_agree_with_each_other_lose_the_robot_too() -> None:
    tracker = localized()
    for i in range(5, 30):
        tracked = attempt(tracker, i, verified(pose_at(3.0 * i), PRECISE))
        assert not tracked.publish
    assert tracked.state is LOST and "no pose has agreed for 2.5 s" in tracked.reason


def test_time_alone_loses_the_robot_when_no_attempts_are_made() -> None:
    tracker = localized()
    tracker.expire(at(24))
    assert tracker.state is LOCALIZED
    tracker.expire(at(24.1))
    assert tracker.state is LOST and "no attempt" in tracker.reason


def test_time_of_any_clock_loses_the_robot_whose_stamps_stand_still() -> None:
    tracker = localized()
    tracker.wait(2_000_000_000, "the image has no stamp")
    assert tracker.state is LOCALIZED
    tracker.wait(2_000_000_001, "the image has no stamp")
    assert (
        tracker.state is LOST
        and tracker.reason == "no pose has agreed for 2.0 s; the image has no stamp"
    )
    tracker.reset("another map")
    tracker.wait(100_000_000_000, "the image has no stamp")
    assert tracker.state is UNINITIALIZED and tracker.reason == "another map"


@both
def test_after_a_pause_one_pose_suffices_only_where_odometry_ties_it_to_those_before(
    odometry: bool,
) -> None:
    tracker = localized(odometry)
    tracked = attempt(tracker, 100, good(100), odometry)
    assert tracked.publish is odometry
    assert attempt(tracker, 101, good(101), odometry).publish


@pytest.mark.parametrize("confirmations", [2, 4])
def test_a_jump_of_the_odometry_is_corrected_after_so_many_poses(confirmations: int) -> None:
    tracker = localized(settings=TrackingSettings(confirmations=confirmations))
    jumped, before = displaced(ODOM, 1.0), tracker.map_from_odom
    for i in range(5, 15):
        tracked = tracker.update(at(i), good(i), jumped[i])
        if i < 4 + confirmations:
            assert (
                tracked.state is UNCERTAIN
                and not tracked.publish
                and tracked.map_from_odom is before
            )
        else:
            assert tracked.publish and tracked.map_from_odom is not None
            torch.testing.assert_close(tracked.map_from_odom @ jumped[i], WAY[i], rtol=0, atol=1e-9)


@both
def test_a_kidnapped_robot_gets_to_the_new_place(odometry: bool) -> None:
    tracker, elsewhere = localized(odometry), pose_at(-7.0, 4.0, yaw=2.0)
    states = []
    for i in range(5, 9):
        tracked = tracker.update(at(i), verified(elsewhere, PRECISE), ODOM[5] if odometry else None)
        states.append(tracked.state)
    assert states == [UNCERTAIN, LOCALIZED, LOCALIZED, LOCALIZED]
    assert tracked.map_from_cam is not None
    torch.testing.assert_close(tracked.map_from_cam, elsewhere, rtol=0, atol=1e-9)
    if odometry:
        assert tracked.map_from_odom is not None
        torch.testing.assert_close(tracked.map_from_odom @ ODOM[5], elsewhere, rtol=0, atol=1e-9)


def test_at_a_new_place_found_without_odometry_the_old_map_from_odom_is_gone() -> None:
    tracker = localized()
    for i in range(5, 7):
        tracked = tracker.update(at(i), verified(pose_at(-7.0), PRECISE), None)
    assert tracked.publish and tracked.map_from_odom is None
