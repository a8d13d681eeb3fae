"""Parts of one drive are found beside each other, and become one where they overlap."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.part import part
from vggt3_ros.maps.merge import merge
from vggt3_ros.maps.siblings import NamedScene, Siblings, join_siblings, siblings_beside
from vggt3_ros.scene.scene import Scene, Sibling
from vggt3_ros.scene.storage import save_scene

from .conftest import FIRST, SECOND, Halves, pose_errors, scene_of, similarity


def sibling(scene: Scene, name: str) -> Sibling:
    return Sibling(scene.scene_id, name, scene.own_frames)


@pytest.fixture(scope="module")
def second(halves: Halves) -> Scene:
    """In another frame, without metres."""
    moved = halves.second.transformed(similarity(2.0))
    return scene_of(moved, 2, is_metric=False, metric_source="none")


@pytest.fixture(scope="module")
def stranger(lookalike: Landmarks) -> Scene:
    return scene_of(lookalike, 3)


@pytest.fixture(scope="module")
def first(halves: Halves, second: Scene, stranger: Scene) -> Scene:
    siblings = (sibling(second, "home-part2"), sibling(stranger, "home-part3"))
    return scene_of(halves.first, 1, siblings=siblings)


def test_a_part_that_overlaps_is_joined_and_another_stays_apart(
    halves: Halves, first: Scene, second: Scene, stranger: Scene
) -> None:
    named = (NamedScene(stranger, "home-part3"), NamedScene(second, "home-part2"))
    reunion = join_siblings(NamedScene(first, "home"), Siblings(named))
    assert reunion.joined == ("home-part2",)
    [(name, reason)] = reunion.apart
    assert name == "home-part3" and "cannot be merged with home" in reason
    scene = reunion.scene
    assert [each.scene_id for each in scene.siblings] == [stranger.scene_id]
    assert [parent.scene_id for parent in scene.parents] == [second.scene_id]
    true = halves.room.world_from_cam[halves.room.map_indices].numpy()
    landmarks = Landmarks.from_tensors(scene.landmarks)
    assert pose_errors(landmarks, np.concatenate([true[FIRST], true[SECOND]])).max() < 0.02


def test_without_any_part_that_overlaps_the_scene_stays_as_it_is(
    first: Scene, stranger: Scene
) -> None:
    named = Siblings((NamedScene(stranger, "home-part3"),), (("home-part2", "it is gone"),))
    reunion = join_siblings(NamedScene(first, "home"), named)
    assert reunion.scene is first and reunion.joined == ()
    assert [name for name, _ in reunion.apart] == ["home-part3", "home-part2"]


def test_frames_of_a_part_are_not_there_twice(first: Scene, second: Scene) -> None:
    """The scene has the part's frames too, without landmarks, where the network put them."""
    seen = Landmarks.from_tensors(first.landmarks)
    tied = np.arange(len(seen.world_from_cam)) < 6
    left = part(seen, tied, np.ones(len(seen), dtype=bool)).tensors()
    for name in ("world_from_cam", "pose_covariance", "intrinsics", "keyframe_descriptors"):
        left[name] = first.landmarks[name]  # of all keyframes
    loose = replace(first, landmarks=left)
    names = tuple(f"other {row}" for row in range(6)) + first.keyframes.names[6:]
    other = replace(second, keyframes=replace(second.keyframes, names=names))
    scene = join_siblings(
        NamedScene(loose, "home"), Siblings((NamedScene(other, "home-part2"),))
    ).scene
    assert len(scene.keyframes) == 6 + 8 and len(set(scene.keyframes.names)) == 14


def test_merging_parts_by_hand_leaves_only_the_others_as_siblings(
    first: Scene, second: Scene, stranger: Scene
) -> None:
    back = (sibling(first, "home"), sibling(stranger, "home-part3"))
    scene = merge([first, replace(second, siblings=back)], ["home", "home-part2"]).scene
    assert [each.scene_id for each in scene.siblings] == [stranger.scene_id]


@pytest.mark.parametrize("damage", ["gone", "spoiled", "of another network"])
def test_a_part_that_cannot_be_read_is_named_with_the_reason(
    first: Scene, second: Scene, stranger: Scene, tmp_path: Path, damage: str
) -> None:
    folder = save_scene(first, tmp_path / "home")
    save_scene(stranger, tmp_path / "called otherwise")
    changes: dict[str, Any] = {"model_fingerprint": "f" * 16} if "network" in damage else {}
    other = save_scene(replace(second, **changes), tmp_path / "home-part2")
    if damage == "gone":
        shutil.rmtree(other)
    elif damage == "spoiled":
        (other / "points.ply").write_bytes(b"ply")
    siblings = siblings_beside(folder, first)
    assert [each.name for each in siblings.found] == ["called otherwise"]
    [(name, reason)] = siblings.missing
    words = {"gone": "lies beside", "spoiled": "is damaged", "of another network": "was made by"}
    assert name == "home-part2" and words[damage] in reason
