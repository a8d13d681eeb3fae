"""What a camera should see of a map, and how likely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.landmarks.visibility import Visibility

from .synthetic import SIZE_WH, synthetic_landmarks

HIDDEN = 10  # a landmark that keyframes on the right do not see, though they look at it


@pytest.fixture(scope="module")
def visibility() -> Visibility:
    every = synthetic_landmarks()
    kept = (every.observed != HIDDEN) | (every.observed_from < 2)
    names = ("observed", "observed_from", "pixels")
    return Visibility(replace(every, **{name: getattr(every, name)[kept] for name in names}))


def seen(visibility: Visibility, pose: np.ndarray) -> dict[int, float]:
    """Likelihoods of the landmarks that are expected at a pose."""
    expected = visibility.expected(pose, synthetic_landmarks().intrinsics[0], SIZE_WH)
    nothing = np.zeros(len(expected.landmarks), dtype=bool)
    likelihood = visibility.likelihood(expected, pose, nothing)
    return dict(zip(expected.landmarks.tolist(), likelihood.tolist(), strict=True))


def test_what_keyframes_near_the_camera_did_not_see_is_unlikely(visibility: Visibility) -> None:
    first, *_, last = synthetic_landmarks().world_from_cam
    assert seen(visibility, first)[HIDDEN] > 0.7
    assert seen(visibility, last).get(HIDDEN, 0.0) < 0.3


def test_what_most_keyframes_saw_is_likely_from_everywhere(visibility: Visibility) -> None:
    for pose in synthetic_landmarks().world_from_cam:
        likelihood = seen(visibility, pose)
        assert len(likelihood) > 50 and all(0 <= each <= 1 for each in likelihood.values())
        assert np.median(list(likelihood.values())) > 0.7


def test_nothing_is_expected_where_no_keyframe_looked(visibility: Visibility) -> None:
    behind = synthetic_landmarks().world_from_cam[2].copy()
    behind[:3, 3] *= -1  # on the other side of all points, looking away from them
    assert seen(visibility, behind) == {}


def wall(distance: float, side: float = 0.6) -> np.ndarray:
    """Points of a square wall across the line of sight of a camera `beside` the keyframes,
    `distance` before it.
    """
    across = np.stack(
        np.meshgrid(*2 * [np.linspace(-side / 2, side / 2, 60)], indexing="ij"), axis=-1
    ).reshape(-1, 2)
    pose = beside()
    return pose[:3, 3] + distance * pose[:3, 2] + across @ pose[:3, :2].T


def beside() -> np.ndarray:
    """A camera above the one in the middle, past which the keyframes look."""
    pose = synthetic_landmarks().world_from_cam[2].copy()
    pose[2, 3] += 0.5
    return pose


def test_what_a_surface_of_the_map_hides_is_not_expected_unless_it_is_found() -> None:
    landmarks, pose = synthetic_landmarks(), beside()
    open_view, walled = Visibility(landmarks), Visibility(landmarks, wall(0.5))
    expected = walled.expected(pose, landmarks.intrinsics[0], SIZE_WH)
    nothing, everything = (np.full(len(expected.landmarks), found) for found in (False, True))
    before = open_view.likelihood(expected, pose, nothing)
    after = walled.likelihood(expected, pose, nothing)
    # The wall, 0.6 wide at a distance of 0.5, hides a square of half its side over its distance.
    in_cam = (landmarks.positions[expected.landmarks] - pose[:3, 3]) @ pose[:3, :3]
    behind = (np.abs(in_cam[:, :2] / in_cam[:, 2:]) < 0.55).all(1)
    beside_it = (np.abs(in_cam[:, :2] / in_cam[:, 2:]) > 0.65).any(1)
    assert behind.sum() > 20 and (before[behind] > 0.3).mean() > 0.8
    assert (after[behind] == 0).all()
    np.testing.assert_array_equal(after[beside_it], before[beside_it])
    np.testing.assert_array_equal(walled.likelihood(expected, pose, everything), before)


def test_a_surface_that_keyframes_saw_through_hides_nothing() -> None:
    """As wrong points that float before a keyframe."""
    landmarks, pose = synthetic_landmarks(), synthetic_landmarks().world_from_cam[2]
    floating = pose[:3, 3] + 0.5 * pose[:3, 2] + (wall(0.5) - wall(0.5).mean(0))
    seen_through = Visibility(landmarks, floating)
    expected = seen_through.expected(pose, landmarks.intrinsics[0], SIZE_WH)
    nothing = np.zeros(len(expected.landmarks), dtype=bool)
    seen_there = np.isin(expected.landmarks, landmarks.seen_from(2))
    before = Visibility(landmarks).likelihood(expected, pose, nothing)
    np.testing.assert_array_equal(
        seen_through.likelihood(expected, pose, nothing)[seen_there], before[seen_there]
    )
