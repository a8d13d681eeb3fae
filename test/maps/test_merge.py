"""Scenes of one place made one, whatever their order, and what cannot be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.maps.edit import Edited, without_keyframes
from vggt3_ros.maps.merge import CannotMergeError, MergeSettings, merge
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.descent import Loop
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.scene.verification import MapVerdict

from .conftest import FIRST, SECOND, Halves, pose_errors, scene_of, similarity


@pytest.fixture(scope="module")
def first(halves: Halves) -> Scene:
    return scene_of(halves.first, 1)


@pytest.fixture(scope="module")
def second(halves: Halves) -> Scene:
    """In another frame."""
    return scene_of(halves.second.transformed(similarity(1.0)), 2)


@pytest.fixture(scope="module")
def merged(first: Scene, second: Scene) -> Scene:
    return merge([first, second], ["monday", "tuesday"]).scene


def test_the_merged_scene_is_in_the_frame_of_the_oldest(
    halves: Halves, first: Scene, merged: Scene
) -> None:
    true = halves.room.world_from_cam[halves.room.map_indices].numpy()
    landmarks = Landmarks.from_tensors(merged.landmarks)
    assert pose_errors(landmarks, np.concatenate([true[FIRST], true[SECOND]])).max() < 0.02
    assert merged.memory.keys() == first.memory.keys()
    assert torch.equal(merged.memory["fast.0.w0"], first.memory["fast.0.w0"])
    assert merged.is_verified and "joined maps" in merged.verdict.reason
    seam = merged.report["seams"][0]
    assert seam["scenes"] == ["monday", "tuesday"] and seam["scale"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("differences", "merged"), [((0.1, 0.2), 0.2), ((None, 0.2), None)])
def test_images_of_both_may_differ_from_the_points_as_those_of_either_do(
    first: Scene,
    second: Scene,
    differences: tuple[float | None, float],
    merged: float | None,
) -> None:
    scenes = [
        replace(
            scene, calibration=replace(scene.require_calibration(), colour_difference=difference)
        )
        for scene, difference in zip((first, second), differences, strict=True)
    ]
    joined = merge(scenes, ["monday", "tuesday"]).scene
    assert joined.require_calibration().colour_difference == merged


def test_keyframes_of_both_are_there_with_names_of_their_own(merged: Scene, second: Scene) -> None:
    names = merged.keyframes.names
    assert len(names) == 16 and len(set(names)) == 16
    assert names[8] == f"{second.scene_id[:8]}/000.png"
    assert len(merged.require_calibration().image_sizes_wh) == 16
    poses = merged.map_from_scene.poses(
        torch.linalg.inv(
            torch.cat(
                [
                    merged.keyframes.cam_from_world,
                    torch.tensor([[[0.0, 0, 0, 1]]]).double().expand(16, 1, 4),
                ],
                dim=1,
            )
        )
    )
    torch.testing.assert_close(poses[8:], merged.map_from_keyframes[8:])


def test_whose_keyframes_they_are_and_which_close_loops_is_kept(
    first: Scene, second: Scene, merged: Scene
) -> None:
    parents = [(first.scene_id, "monday"), (second.scene_id, "tuesday")]
    assert [(each.scene_id, each.name) for each in merged.origins] == parents
    assert [each.keyframes for each in merged.origins] == [8, 8] and merged.loops == ()
    looped = replace(second, loops=(Loop(0, 5),))
    kept = merge([first, looped], ["monday", "tuesday"]).scene
    assert kept.loops == (Loop(8, 13),)
    dropped = without_keyframes(Edited(kept), kept.keyframes.names[1:3]).scene
    assert [each.keyframes for each in dropped.origins] == [6, 8]
    assert dropped.loops == (Loop(6, 11),)


def test_points_of_both_lie_in_one_frame(first: Scene, second: Scene, merged: Scene) -> None:
    low, high = (np.array(corner) for corner in merged.bounds)
    assert (low <= np.array(first.bounds[0]) + 0.05).all()
    assert (high >= np.array(first.bounds[1]) - 0.05).all()
    assert set(merged.points.colors.unique().tolist()) == {1, 2}
    few = merge([first, second], ["a", "b"], MergeSettings(max_points=100)).scene
    assert 20 < len(few.points) <= 100


def test_the_order_does_not_matter(first: Scene, second: Scene, merged: Scene) -> None:
    turned = merge([second, first], ["tuesday", "monday"]).scene
    assert turned.scene_id != merged.scene_id
    assert [parent.name for parent in turned.parents] == ["monday", "tuesday"]
    for name, tensor in merged.landmarks.items():
        assert torch.equal(turned.landmarks[name], tensor), name
    assert torch.equal(turned.points.points, merged.points.points)


def test_another_frame_can_be_kept(first: Scene, second: Scene) -> None:
    kept = merge([first, second], ["a", "b"], frame_of=1).scene
    off = kept.map_from_keyframes[:8] - second.map_from_keyframes
    assert float(off[:, :3, 3].norm(dim=1).max()) < 0.02
    assert torch.equal(kept.memory["fast.0.w0"], second.memory["fast.0.w0"])


def test_metres_of_one_are_metres_of_both(halves: Halves, first: Scene) -> None:
    unmetric = scene_of(
        halves.second.transformed(similarity(3.0)),
        1,
        is_metric=False,
        metric_source="none",
        scene_id="f" * 32,
    )
    scene = merge([unmetric, first], ["a", "b"]).scene
    assert scene.is_metric and scene.parents[0].name == "b"
    assert scene.report["seams"][0]["scale"] == pytest.approx(1 / 3, rel=0.01)


def test_cameras_keep_their_focal_lengths_where_images_differ_in_size(
    first: Scene, second: Scene
) -> None:
    """Twice as large to the network, with a focal length that was found 2 % longer."""
    other = replace(
        second,
        input_size=(144, 192),
        keyframes=replace(
            second.keyframes,
            intrinsics=torch.diag(torch.tensor([2.0, 2.0, 1.0])).double()
            @ second.keyframes.intrinsics,
        ),
        calibration=replace(second.require_calibration(), focal_factor=1.02),
    )
    found = merge([first, other], ["a", "b"]).scene.keyframes.intrinsics
    expected = first.keyframes.intrinsics[0].clone()
    expected[[0, 1], [0, 1]] *= 1.02
    torch.testing.assert_close(found[0], first.keyframes.intrinsics[0])
    torch.testing.assert_close(found[8], expected)


def test_three_scenes_become_one_though_two_of_them_do_not_touch(halves: Halves) -> None:
    def part(which: slice, seed: int) -> Scene:
        from ..landmarks.map_of_room import map_of_room

        room = replace(halves.room, map_indices=halves.room.map_indices[which])
        return scene_of(map_of_room(room, halves.features), seed)

    scenes = [part(slice(0, 6), 3), part(slice(6, 12), 2), part(slice(3, 9), 1)]
    scene = merge(scenes, ["start", "end", "middle"]).scene
    assert [parent.name for parent in scene.parents] == ["middle", "end", "start"]
    assert len(scene.keyframes) == 18 and len(scene.report["seams"]) == 2


def test_images_and_depth_are_kept_where_they_fit_together(first: Scene, second: Scene) -> None:
    def with_parts(scene: Scene, side: int) -> Scene:
        count = len(scene.keyframes)
        depth = KeyframeDepth(
            depth=torch.full((count, 6, side), 2.0),
            provenance=torch.ones(count, 6, side, dtype=torch.uint8),
            intrinsics=torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
            world_from_cam=scene.map_from_keyframes,
        )
        images = torch.full((count, 3, *scene.input_size), side, dtype=torch.uint8)
        return replace(scene, depth=depth, images=images, has_refined_points=True)

    both = merge([with_parts(first, 8), with_parts(second, 8)], ["a", "b"])
    assert both.left_out == ()
    scene = both.scene
    assert scene.depth is not None and scene.images is not None and scene.has_refined_points
    assert len(scene.depth) == 16 and len(scene.images) == 16
    torch.testing.assert_close(scene.depth.world_from_cam, scene.map_from_keyframes)
    other = merge([with_parts(first, 8), with_parts(second, 9)], ["a", "b"])
    assert other.scene.depth is None and not other.scene.has_refined_points
    assert "a has 8x6 pixels and b has 9x6 pixels" in other.left_out[0]
    one = merge([with_parts(first, 8), second], ["a", "b"])
    assert one.scene.images is None and "b has none" in " ".join(one.left_out)
    assert "what the network remembers: of a alone" in one.left_out[-1]


def test_sources_stay_as_they_are(first: Scene, second: Scene, tmp_path: Path) -> None:
    for name, scene in (("a", first), ("b", second)):
        save_scene(scene, tmp_path / name)
    before = hashes(tmp_path)
    merged = merge([load_scene(tmp_path / name) for name in "ab"], ["a", "b"]).scene
    save_scene(merged, tmp_path / "c")
    again = load_scene(tmp_path / "c")
    assert {**hashes(tmp_path), **before} == hashes(tmp_path)
    assert [parent.scene_id for parent in again.parents] == [first.scene_id, second.scene_id]


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_places_that_do_not_overlap_are_refused_with_the_evidence(
    first: Scene, lookalike: Landmarks
) -> None:
    with pytest.raises(CannotMergeError, match=r"b: .* keyframes .*Drive through") as refusal:
        merge([first, scene_of(lookalike, 2)], ["a", "b"])
    assert "cannot be merged with a" in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scene: replace(scene, verdict=MapVerdict(False, "too little texture")), "texture"),
        (lambda scene: replace(scene, model_fingerprint="f" * 16), "made by network"),
    ],
)
def test_scenes_that_cannot_be_merged_at_all_are_named(
    first: Scene, second: Scene, change: Callable[[Scene], Scene], words: str
) -> None:
    with pytest.raises(SceneError, match=words):
        merge([first, change(second)], ["a", "b"])


def test_one_scene_is_no_merge(first: Scene) -> None:
    with pytest.raises(SceneError, match="b is the same scene as a"):
        merge([first, first], ["a", "b"])
    with pytest.raises(InputError, match="two scenes, got 1"):
        merge([first], ["a"])
    with pytest.raises(InputError, match="max_points is 0"):
        MergeSettings(max_points=0)


def test_it_can_be_cancelled(first: Scene, second: Scene) -> None:
    seen = []

    def progress(stage: str, fraction: float) -> None:
        seen.append((stage, fraction))
        if stage == "seam":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge([first, second], ["a", "b"], progress=progress)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and seen[0][0] == "overlap"
