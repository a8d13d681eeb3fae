"""Attempts as they come: late, without odometry, with poses and odometry that cannot be used."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
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
    exact_odometry,
    failure,
    good,
    localized,
    outcome,
    verified,
    winding_way,
)

UNINITIALIZED, LOCALIZED, UNCERTAIN = (
    TrackingState.UNINITIALIZED,
    TrackingState.LOCALIZED,
    TrackingState.UNCERTAIN,
)

both = pytest.mark.parametrize("odometry", [True, False], ids=["odometry", "no odometry"])


# -- stamps
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0.0, 1.0, 19.0])
def test_an_attempt_that_is_not_newer_changes_nothing(earlier: float) -> None:
    tracker = Tracker()
    attempt(tracker, 30, good(30))
    late = tracker.update(at(30 - earlier), good(30), ODOM[30])
    assert (
        late.ignored
        and not late.publish
        and "ignored" in late.reason
        and "ignored" not in tracker.reason
    )
    known = localized()
    assert known.update(at(4), failure(), None).state is LOCALIZED
    assert attempt(tracker, 31, good(31)).publish


def test_a_clock_that_was_set_back_starts_over() -> None:
    tracker = localized()
    tracked = tracker.update(at(4) - int(2.1e9), good(4), ODOM[4])
    assert (
        tracked.state is UNINITIALIZED
        and not tracked.ignored
        and "clock was set back" in tracked.reason
    )
    assert tracked.map_from_odom is None
    assert tracker.update(at(5) - int(2.1e9), good(5), ODOM[5]).publish


def test_a_reset_forgets_everything_and_says_why() -> None:
    tracker = localized()
    tracker.reset("there is a new scene")
    assert tracker.state is UNINITIALIZED and tracker.reason == "there is a new scene"
    assert tracker.map_from_odom is None and tracker.predicted_map_from_cam(at(5), ODOM[5]) is None
    # older stamps, too
    assert [attempt(tracker, i, good(i)).publish for i in range(3)] == [False, True, True]


# -- odometry that comes and goes
# --------------------------------------------------------------------------------------------------


def test_odometry_that_appears_later_is_used_from_then_on() -> None:
    tracker = localized(odometry=False)
    tracked = attempt(tracker, 5, good(5))
    assert tracked.publish and tracked.map_from_odom is not None
    torch.testing.assert_close(tracked.map_from_odom @ ODOM[150], WAY[150], rtol=0, atol=1e-9)


def test_odometry_that_is_missing_now_and_then_does_not_start_the_filter_again() -> None:
    dice, way, coarse = Dice(2), winding_way(160, 10), deviations(0.05, 1.0)
    odom, tracker, before = exact_odometry(way), Tracker(), torch.eye(4)
    filtered, single = [], []
    for i, pose in enumerate(way):
        seen, missing = dice.noisy(pose, coarse), i % 4 == 3
        tracked = tracker.update(at(i), verified(seen, coarse), None if missing else odom[i])
        assert tracked.publish is (i > 0)
        if missing:
            assert tracked.map_from_odom is not None and torch.equal(tracked.map_from_odom, before)
            assert tracked.map_from_cam is not None and "without odometry" in tracked.reason
            torch.testing.assert_close(tracked.map_from_cam, seen, rtol=0, atol=1e-9)
        # the first with odometry again
        elif i > 40 and i % 4 == 0 and tracked.map_from_odom is not None:
            filtered.append(float((tracked.map_from_odom @ odom[i] - pose)[:3, 3].norm()))
            single.append(float((seen - pose)[:3, 3].norm()))
        before = torch.eye(4) if tracked.map_from_odom is None else tracked.map_from_odom
    assert sum(filtered) < 0.7 * sum(single)


def test_odometry_that_returns_at_another_place_has_to_be_confirmed() -> None:
    tracker, jumped = localized(), displaced(ODOM, 3.0)
    for i in range(5, 10):
        assert attempt(tracker, i, good(i), odometry=False).publish
    tracked = [tracker.update(at(i), good(i), jumped[i]) for i in range(10, 12)]
    assert [each.publish for each in tracked] == [False, True] and tracked[
        1
    ].map_from_odom is not None
    torch.testing.assert_close(tracked[1].map_from_odom @ jumped[11], WAY[11], rtol=0, atol=1e-9)


def broken(pose: Tensor, kind: str) -> Tensor:
    pose = pose.clone()
    if kind == "sheared":
        pose[0, 1] += 0.2
    else:
        pose[0, 3] = float(kind)
    return pose


@pytest.mark.parametrize("kind", ["nan", "inf", "1e12", "sheared"])
def test_unusable_odometry_is_taken_as_absent_and_the_reason_says_so(kind: str) -> None:
    tracker = localized()
    before = tracker.map_from_odom
    tracked = tracker.update(at(5), good(5), broken(ODOM[5], kind))
    assert tracked.publish and "without odometry (" in tracked.reason
    assert (
        before is not None
        and tracked.map_from_odom is not None
        and torch.equal(tracked.map_from_odom, before)
    )
    hint = tracker.predicted_map_from_cam(at(6), broken(ODOM[6], kind))
    assert hint is not None and bool(hint.isfinite().all())
    assert attempt(tracker, 6, good(6)).publish


def test_in_a_map_without_scale_odometry_is_left_out() -> None:
    tracker = Tracker()
    for i in range(3):
        tracked = tracker.update(at(i), verified(WAY[i], PRECISE, metric=False), ODOM[i])
    assert tracked.publish and tracked.map_from_odom is None and "no scale" in tracked.reason


# -- what is taken and given
# --------------------------------------------------------------------------------------------------


def test_the_prediction_follows_odometry_and_without_it_stays_for_a_while() -> None:
    tracker = Tracker()
    attempt(tracker, 0, good(0))
    assert tracker.predicted_map_from_cam(at(1), ODOM[1]) is None  # a candidate gives no hint
    tracker = localized()
    for index in (10, 150):
        hint = tracker.predicted_map_from_cam(at(index), ODOM[index])
        assert hint is not None
        torch.testing.assert_close(hint, WAY[index], rtol=0, atol=1e-9)
    still = tracker.predicted_map_from_cam(at(24), None)
    assert still is not None
    torch.testing.assert_close(still, WAY[4], rtol=0, atol=1e-9)
    assert tracker.predicted_map_from_cam(at(25), None) is None


def test_published_poses_fit_map_from_odom_and_their_covariance_never_goes_below_the_floors() -> (
    None
):
    tracker, dice = Tracker(), Dice(4)
    for i in range(100):
        tracked = attempt(tracker, i, verified(dice.noisy(WAY[i], PRECISE), PRECISE))
    assert (
        tracked.map_from_cam is not None
        and tracked.map_from_odom is not None
        and tracked.covariance is not None
    )
    torch.testing.assert_close(
        tracked.map_from_cam, tracked.map_from_odom @ ODOM[99], rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        tracked.map_from_odom, tracked.map_from_cam @ se3_inverse(ODOM[99]), rtol=0, atol=1e-9
    )
    assert float(tracked.covariance.diagonal()[:3].min()) > 0.01**2
    assert float(tracked.covariance.diagonal()[3:].min()) > math.radians(0.3) ** 2


def with_entry(row: int, column: int, value: float) -> Tensor:
    covariance = PRECISE.clone()
    covariance[row, column] = value
    return covariance


@pytest.mark.parametrize(
    ("reason", "unreliable"),
    [
        ("no pose came", outcome(LocalizationStatus.VERIFIED, "no pose came", None, PRECISE)),
        (
            "the image contradicts it",
            outcome(LocalizationStatus.LOST, "the image contradicts it", WAY[5], PRECISE),
        ),
        (
            "not verified",
            outcome(LocalizationStatus.UNVERIFIED, "there are no landmarks", WAY[5], PRECISE),
        ),
        ("NaN", verified(broken(WAY[5], "nan"), PRECISE)),
        ("not a rotation", verified(broken(WAY[5], "sheared"), PRECISE)),
        ("not finite", verified(WAY[5], with_entry(2, 3, math.nan))),
        ("positive", verified(WAY[5], with_entry(4, 4, -1.0))),
        ("covariance (6, 6), got (3, 3)", verified(WAY[5], PRECISE[:3, :3])),
        ("covariance (6, 6), got None", verified(WAY[5], None)),
    ],
)
def test_a_pose_that_cannot_be_relied_upon_is_a_failure(
    reason: str, unreliable: Localization
) -> None:
    tracker = localized()
    tracked = attempt(tracker, 5, unreliable)
    assert tracked.state is UNCERTAIN and not tracked.publish and reason in tracked.reason
    assert attempt(tracker, 6, good(6)).publish


def test_the_same_attempts_lead_to_the_same_poses() -> None:
    def run() -> list[Tensor]:
        tracker, dice = Tracker(), Dice(5)
        tracked = [
            attempt(tracker, i, verified(dice.noisy(WAY[i], PRECISE), PRECISE)) for i in range(20)
        ]
        return [each.map_from_cam for each in tracked if each.map_from_cam is not None]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [("confirmations", 0), ("confirmations", 1.5), ("joint_images", 0), ("joint_images", 2.5)]
    + [("lost_after_s", 0.0), ("clock_jump_s", -1.0), ("drift_translation", math.nan)]
    + [
        ("drift_rotation", -0.1),
        ("floor_position_m", math.inf),
        ("max_speed_mps", 0.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is {value:g}"):
        TrackingSettings(**{name: value})
