"""Given poses are held where they are exact, adjusted where they are not, and contradicted keyframe
by keyframe.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from time import sleep
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.adjusting import adjusted, brought_back
from vggt3_ros.landmarks.assemble import assembled
from vggt3_ros.landmarks.build import LandmarkMap, build_landmarks
from vggt3_ros.landmarks.fit import Fit, Given
from vggt3_ros.landmarks.fitting import as_good
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.leave_one_out import Predictions
from vggt3_ros.landmarks.tensors import pose_distances
from vggt3_ros.landmarks.tracks import build_tracks
from vggt3_ros.landmarks.verdict import judge

from .conftest import Visit
from .test_build import ALL, position_errors, shaken


def built(
    visit: Visit, start: np.ndarray, measured: np.ndarray = ALL, **settings: object
) -> LandmarkMap:
    return build_landmarks(
        visit.features,
        visit.matches,
        start,
        visit.intrinsics,
        measured,
        LandmarkSettings(**settings),  # type: ignore[arg-type]
    )


def test_exact_poses_stay_to_the_bit(visit: Visit) -> None:
    found = built(visit, visit.world_from_cam)
    assert found.verified and found.poses == "held as given" and "held as given" in found.reason
    np.testing.assert_array_equal(found.world_from_cam, visit.world_from_cam)


def test_noisy_poses_are_adjusted_and_it_is_said(visit: Visit) -> None:
    found = built(visit, shaken(visit.world_from_cam, 0.1, 3))
    assert found.verified and found.poses == "adjusted to the images" and "adjusted" in found.reason


def test_where_poses_stay_at_exact_priors_no_other_adjustment_is_tried(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would find the same: at noisy ones it is tried, and finds what may be better."""
    tried: list[tuple[Fit, bool]] = []

    def spy(*args: Any, **more: Any) -> tuple[Fit, bool]:
        tried.append(adjusted(*args, **more))
        return tried[-1]

    monkeypatch.setattr("vggt3_ros.landmarks.fitting.adjusted", spy)
    built(visit, visit.world_from_cam)
    ((fit, _),) = tried
    wider = adjusted(fit.given, visit.world_from_cam, lambda done: None, prior_outlier=10.0)[0]
    off = pose_distances(wider.world_from_cam, fit.world_from_cam)
    assert (off < (0.0005, np.radians(0.01))).all()
    tried.clear()
    built(visit, shaken(visit.world_from_cam, 0.1, 3))
    assert len(tried) > 1


@pytest.mark.parametrize(
    ("noise", "moved_noise", "worse", "are_held"),
    [
        (2.5, 0.14, 1.2, False),
        (2.5, 0.14, 0.9, True),
        (0.97, 0.35, 1.2, True),
        (0.97, 0.35, 1.4, False),
    ],
)
def test_poses_that_fit_the_images_badly_are_held_only_if_they_predict_better(
    noise: float, moved_noise: float, worse: float, are_held: bool
) -> None:
    """Pixels that both are off, and how much worse held poses predict, as measured with noisy and
    with exact ones.
    """
    held, moved = (
        cast(Fit, SimpleNamespace(noise=px, converged=True, given=SimpleNamespace(pixel_size=1.0)))
        for px in (noise, moved_noise)
    )
    by_moved = Predictions(np.full((8, 2), 0.01), np.full((8, 2), 0.001))
    by_held = Predictions(worse * by_moved.errors, by_moved.deviations)
    assert as_good(held, by_held, moved, by_moved) is are_held


def test_whoever_holds_poses_gets_them_held(visit: Visit) -> None:
    start = shaken(visit.world_from_cam, 0.01, 0.2)
    found = built(visit, start, hold_priors=True)
    np.testing.assert_array_equal(found.world_from_cam, start)
    assert found.verified
    moved = built(visit, visit.world_from_cam, hold_priors=False)
    assert moved.verified and moved.poses == "adjusted to the images"
    assert (moved.world_from_cam != visit.world_from_cam).any()


def test_a_wrong_focal_length_is_no_reason_to_leave_exact_poses(visit: Visit) -> None:
    wrong = visit.intrinsics.copy()
    wrong[:, [0, 1], [0, 1]] *= 1.03
    found = build_landmarks(visit.features, visit.matches, visit.world_from_cam, wrong, ALL)
    assert found.verified and found.poses == "held as given"
    assert found.report["prior_sigma_deg"] > 0.02


def test_poses_said_to_be_exact_are_contradicted_one_by_one(visit: Visit) -> None:
    start = visit.world_from_cam.copy()
    start[2, :3, 3] += (0.5, 0.4, 0.0)
    for settings in ({"hold_priors": True}, {"position_sigma": 0.003, "rotation_sigma": 0.001}):
        found = built(visit, start, **settings)
        assert found.verified, found.reason
        assert found.prior_outliers == (2,)
        assert position_errors(found.world_from_cam, visit.world_from_cam).max() < 0.05


def test_priors_of_half_of_the_frames_hold_the_others(visit: Visit) -> None:
    measured = np.arange(8) % 2 == 0
    start = shaken(visit.world_from_cam, 0.2, 5)
    start[measured] = visit.world_from_cam[measured]
    found = built(visit, start, measured)
    assert (
        found.verified and position_errors(found.world_from_cam, visit.world_from_cam).max() < 0.02
    )


def test_what_left_its_priors_as_a_whole_is_brought_back(visit: Visit) -> None:
    """Images do not mind in what scale, and priors that all are far off let each other go."""
    tracks = build_tracks([len(one) for one in visit.features], visit.matches)
    measured = np.arange(8) < 5
    given = Given(
        visit.features, tracks, visit.world_from_cam, measured, visit.intrinsics, LandmarkSettings()
    )
    fit, _ = adjusted(given, visit.world_from_cam, lambda share: None)
    assert brought_back(fit, lambda share: None) is None, "it is where it should be"
    fit.world_from_cam[:, :3, 3] *= 0.4
    fit.prior_deviation[:, 0] = position_errors(fit.world_from_cam, visit.world_from_cam)
    back = brought_back(fit, lambda share: None)
    assert (
        back is not None and position_errors(back.world_from_cam, visit.world_from_cam).max() < 0.02
    )
    one = replace(given, measured=np.arange(8) < 1)  # determines no scale
    assert brought_back(Fit(one, fit.world_from_cam), lambda share: None) is None


def test_what_decides_between_two_fits_is_how_much_agrees(visit: Visit) -> None:
    """Not how far off wrong matches lie, nor matches of an image with itself, which agree wherever
    it stands.
    """
    own = np.repeat(np.arange(len(visit.features[0]), dtype=np.int32)[:, None], 2, axis=1)
    again = {(j, 8): found[:, ::-1] for (i, j), found in visit.matches.items() if i == 0}
    matches = {**visit.matches, (0, 8): own, **again}
    twice = [*range(8), 0]
    features, poses = [visit.features[i] for i in twice], visit.world_from_cam[twice]
    tracks = build_tracks([len(one) for one in features], matches)
    given = Given(
        features, tracks, poses, np.ones(9, dtype=bool), visit.intrinsics[twice], LandmarkSettings()
    )
    rolled = poses.copy()
    rolled[:4, :3, 3] += 0.3
    right, wrong = (Fit(given, each).cost(0.2, (0.1, 0.1)) for each in (poses, rolled))
    alone = build_tracks([len(one) for one in visit.features], visit.matches)
    once = Given(visit.features, alone, poses[:8], ALL, visit.intrinsics, LandmarkSettings())
    assert right < 0.8 * wrong and right < 1.3 * Fit(once, poses[:8]).cost(0.2, (0.1, 0.1))


def test_a_keyframe_that_two_views_alone_tie_carries_no_landmarks(visit: Visit) -> None:
    """Its scale and turn are anybody's guess, and its residuals are perfect."""
    matches = {
        pair: found for pair, found in visit.matches.items() if 7 not in pair or pair == (6, 7)
    }
    none = np.zeros(8, dtype=bool)
    found = build_landmarks(
        visit.features, matches, shaken(visit.world_from_cam, 0.1, 3), visit.intrinsics, none
    )
    shared = {pair: np.zeros((0, 2), np.int32) for pair in matches if 7 in pair}
    alone = build_landmarks(
        visit.features,
        {**matches, **shared},
        shaken(visit.world_from_cam, 0.1, 3),
        visit.intrinsics,
        none,
    )
    assert found.verified and found.landmarks is not None and alone.landmarks is not None
    tied = {int(k) for k in np.unique(alone.landmarks.observed_from)}
    carrying = {int(k) for k in np.unique(found.landmarks.observed_from)}
    assert 7 not in tied and carrying - {7} == tied


def test_keyframes_whose_position_the_images_leave_open_carry_no_landmarks(visit: Visit) -> None:
    tracks = build_tracks([len(one) for one in visit.features], visit.matches)
    none = np.zeros(8, dtype=bool)
    given = Given(
        visit.features, tracks, visit.world_from_cam, none, visit.intrinsics, LandmarkSettings()
    )
    fit, _ = adjusted(given, visit.world_from_cam, lambda share: None)
    assert assembled(fit)[1].loose == 0
    fit.pose_covariance[:2, :3, :3] += 0.1 * np.eye(3)
    verdict = judge(assembled(copy(fit))[1])
    assert (
        not verdict.verified
        and "turned on the spot" in verdict.reason
        and "2 of 8" in verdict.reason
    )
    told = copy(fit)
    told.given = replace(given, measured=none | (np.arange(8) == 3))
    assert assembled(told)[1].loose == 0, "what a prior tells, images need not"
    landmarks, evidence = assembled(fit)
    assert landmarks is not None and evidence.loose == 2
    assert 0 not in landmarks.observed_from and 1 not in landmarks.observed_from


def test_held_poses_have_no_sigmas() -> None:
    with pytest.raises(InputError, match="held"):
        LandmarkSettings(hold_priors=True, position_sigma=0.1)


@pytest.mark.parametrize("fails", ["held", "_adjusted"])
def test_what_ends_one_of_the_two_fits_ends_both(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Poses are held and adjusted at the same time, and both ask whether to go on."""
    ended: list[str] = []

    def endless(given: Given, *args: Any) -> Fit:
        progress = args[-1]
        try:
            while True:
                progress(0.5)
                sleep(0.01)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    def failing(given: Given, *args: Any) -> Fit:
        raise InputError("no more")

    other = {"held": "_adjusted", "_adjusted": "held"}[fails]
    monkeypatch.setattr(f"vggt3_ros.landmarks.fitting.{fails}", failing)
    monkeypatch.setattr(f"vggt3_ros.landmarks.fitting.{other}", endless)
    with pytest.raises(InputError, match="no more"):
        built(visit, visit.world_from_cam)
    assert len(ended) == 1


def test_whoever_is_told_of_progress_may_end_it(visit: Visit) -> None:
    def cancel(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_landmarks(
            visit.features,
            visit.matches,
            visit.world_from_cam,
            visit.intrinsics,
            ALL,
            progress=cancel,
        )
