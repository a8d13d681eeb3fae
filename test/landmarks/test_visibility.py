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
    likelihood = visibility.likelihood(expected, pose)
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
