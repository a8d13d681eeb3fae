"""Keyframes that landmarks hold rigidly together, without any image."""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.rigid import rigid_sets, tied_to, undetermined


def seen(*groups: tuple[tuple[int, ...], int]) -> tuple[np.ndarray, np.ndarray]:
    """Observations (keyframe, point) of so many points per group of keyframes that all see them."""
    pairs = [
        (k, (g, p))
        for g, (keyframes, points) in enumerate(groups)
        for p in range(points)
        for k in keyframes
    ]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(name for _, name in pairs))}
    return np.array([k for k, _ in pairs]), np.array([numbers[name] for _, name in pairs])


def test_a_keyframe_joins_by_points_that_two_others_see() -> None:
    assert rigid_sets(*seen(((0, 1, 2), 20), ((1, 2, 3), 15)), 4) == [[0, 1, 2, 3]]


def test_points_of_two_keyframes_alone_tie_nothing() -> None:
    keyframe, point = seen(((0, 1, 2), 30), ((2, 3), 200), ((3, 4, 5), 30))
    assert sorted(rigid_sets(keyframe, point, 6)) == [[0, 1, 2], [3, 4, 5]]


def test_too_few_points_tie_nothing() -> None:
    assert rigid_sets(*seen(((0, 1), 40), ((0, 1, 2), 14)), 3) == [[0, 1]]


def test_the_largest_set_is_the_first() -> None:
    assert rigid_sets(*seen(((0, 1), 90), ((2, 3, 4), 20)), 5) == [[2, 3, 4], [0, 1]]


def test_nothing_seen_is_no_set() -> None:
    none = np.zeros(0, np.int64)
    assert rigid_sets(none, none, 3) == [] and rigid_sets(none, none, 0) == []


def test_keyframes_without_a_prior_are_tied_to_those_with_one() -> None:
    keyframe, point = seen(((0, 1, 2), 20), ((2, 3), 200), ((1, 2, 4), 15))
    members = np.array([True, True, False, False, False])
    assert tied_to(members, keyframe, point).tolist() == [True, True, True, False, True]


def test_a_position_is_open_by_the_distance_to_those_that_share_landmarks() -> None:
    """A part that shrank to a hundredth of the rest is as uncertain as before, and much smaller."""
    keyframe, point = seen(((0, 1, 2), 40), ((2, 3), 5), ((3, 4, 5), 40))
    positions = np.zeros((6, 3))
    positions[:, 0] = [-2, -1, 0, 0.01, 0.02, 0.03]
    assert not undetermined(positions, np.full(6, 1e-4), keyframe, point).any()
    open_ones = undetermined(positions, np.full(6, 2e-3), keyframe, point)
    assert open_ones.tolist() == [False, False, False, True, True, True]


def test_keyframes_on_one_spot_have_no_position() -> None:
    keyframe, point = seen(((0, 1, 2), 40))
    assert undetermined(np.ones((3, 3)), np.full(3, 1e-9), keyframe, point).all()
    assert undetermined(np.eye(4)[:, :3], np.full(4, 1e-9), keyframe, point).tolist() == [
        False
    ] * 3 + [True]
