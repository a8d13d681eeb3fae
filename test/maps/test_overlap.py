"""Where one map lies in another, and when that cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import LandmarkLocalizer
from vggt3_ros.landmarks.part import part
from vggt3_ros.maps import overlap
from vggt3_ros.maps.overlap import NoOverlap, Overlap, Side, find_overlap, keyframe_features

from .conftest import SIZE_WH, Halves, side, similarity


@pytest.mark.parametrize(("scale", "metric"), [(1.0, True), (1.0, False), (2.5, False)])
def test_the_second_half_is_found_in_the_first(halves: Halves, scale: float, metric: bool) -> None:
    other_from_room = similarity(scale)
    second = halves.second.transformed(other_from_room)
    found = find_overlap(side(halves.first, metric), side(second, metric))
    assert isinstance(found, Overlap), found
    room_from_room = found.a_from_b @ other_from_room
    assert room_from_room.scale == pytest.approx(1, abs=0.005)
    assert float(room_from_room.translation.norm()) < 0.02
    np.testing.assert_allclose(room_from_room.rotation.numpy(), np.eye(3), atol=0.005)
    assert min(map(len, found.keyframes)) >= 4 and found.residual < 0.01


def test_pairs_are_the_same_points_and_none_is_named_twice(halves: Halves) -> None:
    found = find_overlap(side(halves.first), side(halves.second))
    assert isinstance(found, Overlap)
    a, b = found.pairs.T
    assert len(a) > 100 and len(np.unique(a)) == len(a) and len(np.unique(b)) == len(b)
    off = np.linalg.norm(halves.first.positions[a] - halves.second.positions[b], axis=1)
    assert np.median(off) < 0.005 and off.max() < 0.1


def test_maps_in_metres_that_differ_in_scale_are_not_joined(halves: Halves) -> None:
    second = halves.second.transformed(similarity(1.3))
    found = find_overlap(side(halves.first), side(second))
    assert isinstance(found, NoOverlap) and "scaled by 0.7" in found.reason, found
    assert isinstance(find_overlap(side(halves.first), side(second, False)), Overlap)


def test_a_room_that_looks_alike_is_not_taken_for_the_first(
    halves: Halves, lookalike: Landmarks
) -> None:
    for a, b in ((halves.whole, lookalike), (lookalike, halves.whole)):
        found = find_overlap(side(a), side(b))
        assert isinstance(found, NoOverlap) and "keyframes" in found.reason


def test_keyframes_that_should_see_the_other_map_are_asked_though_few_look_most_alike(
    halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few keyframes a search begins with, those that its result expects are asked too."""
    all_asked = find_overlap(side(halves.first), side(halves.second))
    monkeypatch.setattr(overlap, "_ALIKE", 1)
    few_asked = find_overlap(side(halves.first), side(halves.second))
    assert isinstance(all_asked, Overlap) and isinstance(few_asked, Overlap)
    few, many = (sum(map(len, each.keyframes)) for each in (few_asked, all_asked))
    assert few >= many - 1


def test_a_large_map_is_searched_where_it_looks_like_the_small_one(
    halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    found = overlap._found

    def counted(own: int, whole: Side, keyframe: int, other: LandmarkLocalizer) -> object:
        asked.append((own, keyframe))
        return found(own, whole, keyframe, other)

    monkeypatch.setattr(overlap, "_found", counted)
    monkeypatch.setattr(overlap, "_ALIKE", 2)
    monkeypatch.setattr(overlap, "_expected", lambda *_: set())
    second = halves.second
    first_three = np.arange(len(second.world_from_cam)) < 3
    small = part(second, first_three, np.full(len(second), True))
    find_overlap(side(halves.whole), side(small))
    assert len([1 for own, _ in asked if own == 0]) <= 2 * 3


def test_features_of_a_keyframe_are_its_landmarks(halves: Halves) -> None:
    landmarks = halves.first
    features = keyframe_features(landmarks, 3, SIZE_WH)
    seen = landmarks.seen_from(3)
    np.testing.assert_array_equal(features.descriptors, landmarks.descriptors[seen])
    camera = (landmarks.positions[seen] - landmarks.world_from_cam[3, :3, 3]) @ (
        landmarks.world_from_cam[3, :3, :3]
    )
    pixels = camera[:, :2] / camera[:, 2:] * landmarks.intrinsics[3][[0, 1], [0, 1]]
    pixels += landmarks.intrinsics[3][:2, 2]
    assert np.median(np.linalg.norm(pixels - features.pixels, axis=1)) < 1
