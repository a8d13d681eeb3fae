"""Scenes are laid out as they would be merged, before anybody merges them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.maps.placing import Placed, place
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.verification import MapVerdict

from .conftest import FIRST, SECOND, Halves, scene_of, similarity

SHARED = [row for row in range(FIRST.stop) if row >= SECOND.start]


@pytest.fixture(scope="module")
def placed(halves: Halves, lookalike: Landmarks) -> list[Placed]:
    """The first half of a room, the second one in another frame, and another room."""
    scenes = [
        scene_of(halves.first, 1),
        scene_of(
            halves.second.transformed(similarity(2.0)), 2, is_metric=False, metric_source="none"
        ),
        scene_of(lookalike, 3, is_metric=False, metric_source="none"),
    ]
    return place(scenes, ["monday", "tuesday", "other"])


def test_one_that_overlaps_lies_where_it_would_be_merged(
    halves: Halves, placed: list[Placed]
) -> None:
    monday, tuesday, _ = placed
    assert monday.joined_to is None and tuesday.joined_to == 0
    true = halves.room.world_from_cam[halves.room.map_indices].numpy()
    off = tuesday.scene.map_from_keyframes.numpy()[:, :3, 3] - true[SECOND, :3, 3]
    assert np.linalg.norm(off, axis=1).max() < 0.05
    assert "keyframes of tuesday were found in monday" in tuesday.evidence
    assert monday.common.sum() == tuesday.common.sum() > 100


def test_ties_are_between_keyframes_that_see_the_same(placed: list[Placed]) -> None:
    """Keyframes of both halves are images of one drive, and some the same image."""
    rows = placed[1].ties + [0, SECOND.start]
    same = rows[np.isin(rows, SHARED).all(axis=1)]
    assert len(same) >= 3 and (same[:, 0] == same[:, 1]).all()
    assert np.abs(rows[:, 0] - rows[:, 1]).max() <= len(SHARED)


def test_one_that_does_not_overlap_stands_beside_with_the_reason(placed: list[Placed]) -> None:
    monday, tuesday, other = placed
    assert other.joined_to is None and len(other.ties) == 0 and not other.common.any()
    assert other.evidence.startswith("stands beside the others")
    assert "agree on how the maps lie" in other.evidence
    right = max(each.scene.bounds[1][0] for each in (monday, tuesday))
    assert other.scene.bounds[0][0] > right

    def size(scene: Scene) -> float:
        return float(np.linalg.norm(np.subtract(*scene.bounds)))

    assert size(other.scene) == pytest.approx(size(monday.scene), rel=1e-3)


def test_what_could_not_be_merged_is_shown_too(halves: Halves) -> None:
    scene = scene_of(halves.first, 1)
    unverified = replace(
        scene_of(halves.second, 2), landmarks={}, verdict=MapVerdict(False, "too few matches")
    )
    foreign = scene_of(halves.second, 3, model_fingerprint="f" * 16)
    reasons = [
        each.evidence
        for each in place([scene, unverified, foreign, scene], ["a", "b", "c", "again"])
    ]
    assert "too few matches" in reasons[1] and "was made by network" in reasons[2]
    assert "is the same scene as a" in reasons[3]
