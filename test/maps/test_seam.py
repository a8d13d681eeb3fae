"""Landmarks of two maps joined into one."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import LandmarkLocalizer, Located
from vggt3_ros.landmarks.tensors import pose_distances, to_tensor
from vggt3_ros.maps import seam
from vggt3_ros.maps.overlap import Overlap, find_overlap
from vggt3_ros.maps.seam import Joined, covering, join

from .conftest import FIRST, SECOND, Halves, pose_errors, side, similarity


def joined_halves(halves: Halves, off: Sim3, budget: int = 20_000) -> Joined:
    """The halves joined, the second of them given `off` where it belongs."""
    found = find_overlap(side(halves.first), side(halves.second))
    assert isinstance(found, Overlap)
    return join(halves.first, halves.second.transformed(off), found.pairs, budget)


@pytest.fixture(scope="module")
def joined(halves: Halves) -> Joined:
    return joined_halves(halves, Sim3.identity())


def true_poses(halves: Halves) -> np.ndarray:
    poses = halves.room.world_from_cam[halves.room.map_indices].numpy()
    return np.concatenate([poses[FIRST], poses[SECOND]])


def localized(halves: Halves, landmarks: Landmarks) -> dict[int, Located]:
    localizer = LandmarkLocalizer(landmarks)
    answers = {
        int(query): localizer.locate(halves.features[query], halves.room.intrinsics.numpy())
        for query in halves.room.query_indices
    }
    return {query: answer for query, answer in answers.items() if answer.accepted}


def test_queries_are_found_as_in_a_map_made_at_once(halves: Halves, joined: Joined) -> None:
    found = localized(halves, joined.landmarks)
    at_once = localized(halves, halves.whole)
    # what each half sees once is a landmark of neither: one query hangs on that
    assert set(found) <= set(at_once) and len(found) >= len(at_once) - 1
    inliers = {query: answer.inliers for query, answer in found.items()}
    for half in (halves.first, halves.second):
        by_half = localized(halves, half)
        fewer = [inliers[query] - by_half[query].inliers for query in found if query in by_half]
        assert min(fewer) > -5 and max(fewer) > 40
    poses = [answer.world_from_cam for answer in found.values()]
    off = pose_distances(np.stack(poses), halves.room.world_from_cam.numpy()[list(found)])  # type: ignore[arg-type]
    assert off[:, 0].max() < 0.03 and np.degrees(off[:, 1]).max() < 0.5


def test_what_was_misplaced_is_adjusted_to_the_images(halves: Halves) -> None:
    turned = rotation_from_axis_angle(to_tensor(np.array([0.0, 0.01, 0.0])))
    off = Sim3(1.01, turned, to_tensor(np.array([0.03, -0.02, 0.02])))
    joined = joined_halves(halves, off)
    misplaced = pose_errors(halves.second.transformed(off), true_poses(halves)[8:])
    assert np.median(misplaced) > 0.02
    assert pose_errors(joined.landmarks, true_poses(halves)).max() < 0.01
    assert joined.objection is None and joined.agreeing > 0.95


def test_of_many_keyframes_those_that_share_most_are_adjusted(
    halves: Halves, joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(landmarks: Landmarks) -> np.ndarray:
        before = halves.first.world_from_cam
        return (landmarks.world_from_cam[: len(before)] != before).any((1, 2))

    monkeypatch.setattr(seam, "_MAX_FREE", 2)
    two = joined_halves(halves, Sim3.identity())
    assert two.objection is None and moved(two.landmarks).sum() == 2
    assert moved(joined.landmarks).sum() > 2


def test_keyframes_that_see_nothing_of_the_other_map_stay(halves: Halves) -> None:
    """All but two pairs are withheld: of the first map only those that see one of these may
    move.
    """
    found = find_overlap(side(halves.first), side(halves.second))
    assert isinstance(found, Overlap)
    first = halves.first
    far = np.zeros(len(first), dtype=bool)
    far[first.observed[first.observed_from < 4]] = True
    pairs = found.pairs[~far[found.pairs[:, 0]]]
    assert len(pairs) > 50
    joined = join(first, halves.second, pairs, 20_000)
    moved = np.abs(joined.landmarks.world_from_cam[:8] - first.world_from_cam).max((1, 2))
    assert (moved[:4] == 0).all() and (moved[4:] > 0).any()
    kept = joined.landmarks.positions
    untouched = far.copy()
    untouched[first.observed[first.observed_from >= 4]] = False
    for position in first.positions[untouched][:20]:
        assert (kept == position).all(1).any()


def test_pairs_that_are_not_the_same_are_an_objection(halves: Halves) -> None:
    found = find_overlap(side(halves.first), side(halves.second))
    assert isinstance(found, Overlap)
    wrong = np.stack([found.pairs[:, 0], np.roll(found.pairs[:, 1], 7)], axis=1)
    objection = join(halves.first, halves.second, wrong, 20_000).objection
    assert objection is not None and "contradict" in objection


def test_the_budget_leaves_every_keyframe_its_share(halves: Halves, joined: Joined) -> None:
    budget = len(joined.landmarks) // 4
    small = joined_halves(halves, Sim3.identity(), budget).landmarks
    assert len(small) <= budget
    share = np.bincount(small.observed_from) / np.bincount(joined.landmarks.observed_from)
    assert share.min() > 0.1
    seen = np.bincount(small.observed)
    assert seen.min() >= 2 and seen.mean() > np.bincount(joined.landmarks.observed).mean()


def test_both_maps_may_be_in_any_frame(halves: Halves) -> None:
    moved = similarity(1.0)
    a, b = halves.first.transformed(moved), halves.second
    found = find_overlap(side(a), side(b))
    assert isinstance(found, Overlap)
    landmarks = join(a, b.transformed(found.a_from_b), found.pairs, 20_000).landmarks
    back = landmarks.transformed(moved.inverse())
    assert pose_errors(back, true_poses(halves)).max() < 0.02


def test_points_are_taken_in_turns() -> None:
    """Keyframe 0 sees points 0 to 3, keyframe 1 sees 3 to 5; worth falls from 5 to 0."""
    keyframe = np.array([0, 0, 0, 0, 1, 1, 1])
    point = np.array([0, 1, 2, 3, 3, 4, 5])
    worth = np.arange(6.0)
    chosen = [np.flatnonzero(covering(keyframe, point, worth, most)).tolist() for most in (2, 4)]
    assert chosen == [[3, 5], [2, 3, 4, 5]]
