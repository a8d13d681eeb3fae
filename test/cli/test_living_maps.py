"""`vggt3 extend` and `vggt3 merge`: scenes that grow, and parents that stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vggt3_ros.cli import view
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.worlds.sequence import RoomSequence

from .conftest import map_images

Run = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def farthest(scene: Any, drive: RoomSequence, which: list[int]) -> float:
    true = drive.world_from_cam[drive.map_indices][which]
    return float((scene.map_from_keyframes - true)[:, :3, 3].norm(dim=1).max())


def test_two_scenes_become_one_in_which_queries_of_both_are_found(
    vggt3: Run, room: Path, drive: RoomSequence, first: Path, second: Path, tmp_path: Path
) -> None:
    before = [contents(first), contents(second)]
    report = tmp_path / "merge.json"
    outcome = vggt3("merge", second, first, "--out", tmp_path / "new", "--json", report)
    assert outcome.code == 0 and "12 keyframes" in outcome.out, outcome
    assert "landmarks in both" in outcome.out and "left out" not in outcome.out
    assert [contents(first), contents(second)] == before
    scene = load_scene(tmp_path / "new")
    assert farthest(scene, drive, [*range(6), *range(2, 8)]) < 0.02
    data = json.loads(report.read_text())
    assert data["keyframes"] == 12 and data["seams"][0]["agreeing"] > 0.9
    assert sorted(data["parents"]) == sorted([str(first), str(second)])
    assert scene.images is not None and scene.report["views"]["fitted"] >= 2  # fitted anew
    for name, tensor in load_scene(first).memory.items():
        assert not torch.equal(scene.memory[name], tensor)
    answers = tmp_path / "answers.json"
    known = ["--intrinsics", room / "intrinsics.json", "--json", answers]
    assert vggt3("localize", tmp_path / "new", room / "queries", *known).code == 0
    verified = [each["status"] == "VERIFIED" for each in json.loads(answers.read_text())["images"]]
    assert sum(verified) >= 3


def test_scenes_to_be_merged_are_shown_where_they_would_lie(
    vggt3: Run, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser")
    from vggt3_ros.nodes.viewer.page import Viewer

    shown: dict[str, Any] = {}

    class Watched(Viewer):
        def show_points(self, points: Any, colors: Any, others: Any = None) -> None:
            shown["points"] = others["scene"]
            super().show_points(points, colors, others)

        def show_keyframes(self, map_from_cam: Any, ways: Any = ()) -> None:
            shown["keyframes"] = map_from_cam
            super().show_keyframes(map_from_cam, ways)

        def show_lines(self, what: str, lines: Any, color: Any) -> None:
            shown[what] = lines
            super().show_lines(what, lines, color)

        def show_text(self, markdown: str) -> None:
            shown["text"] = markdown
            super().show_text(markdown)

    def end() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vggt3_ros.nodes.viewer.page.Viewer", Watched)
    monkeypatch.setattr(view, "wait", end)
    before = [contents(first), contents(second)]
    outcome = vggt3("view", first, second, "--port", "0")
    assert outcome.code == 0 and "2 scenes: 1 lie in another one" in outcome.out, outcome
    assert f"keyframes of {second} were found in {first}" in shown["text"]
    assert len(shown["pairs of keyframes that agree"]) >= 3 and len(shown["keyframes"]) == 12
    assert len({tuple(row) for row in shown["points"].tolist()}) == 2
    assert [contents(first), contents(second)] == before


def test_new_images_extend_a_scene(
    vggt3: Run, room: Path, drive: RoomSequence, first: Path, tmp_path: Path
) -> None:
    before = contents(first)
    report = tmp_path / "extend.json"
    options = ["--intrinsics", room / "intrinsics.json", "--json", report]
    images = map_images(room, slice(3, 8))
    outcome = vggt3("extend", first, *images, "--out", tmp_path / "new", *options)
    assert outcome.code == 0 and f"were found in {first}" in outcome.out, outcome
    assert contents(first) == before
    scene = load_scene(tmp_path / "new")
    assert farthest(scene, drive, [*range(6), *range(3, 8)]) < 0.03
    assert [parent.scene_id for parent in scene.parents] == [load_scene(first).scene_id]
    old, added = scene.origins
    assert (old.keyframes, old.name, added.keyframes) == (6, str(first), 5)
    assert added.name.startswith("images added 20")
    data = json.loads(report.read_text())
    assert data["new_images"] == 5 and data["found_in_the_scene"] >= 3
    assert data["keyframes"] == 11 and data["skipped"] == []
    assert data["seconds"]["map"] > 0


def test_odometry_of_any_frame_places_what_the_scene_does_not_show(
    vggt3: Run, room: Path, drive: RoomSequence, first: Path, tmp_path: Path
) -> None:
    poses = odometry(tmp_path / "odometry.txt", drive, jump=0.0)
    options = ["--intrinsics", room / "intrinsics.json", "--poses", poses]
    images = map_images(room, slice(3, 8))
    assert vggt3("extend", first, *images, "--out", tmp_path / "new", *options).code == 0
    assert farthest(load_scene(tmp_path / "new"), drive, [*range(6), *range(3, 8)]) < 0.03


def test_images_found_where_odometry_does_not_have_them_are_refused(
    vggt3: Run, room: Path, drive: RoomSequence, first: Path, tmp_path: Path
) -> None:
    """As where one place looks like another: which of them it is, nobody can tell."""
    poses = odometry(tmp_path / "odometry.txt", drive, jump=5.0)
    options = ["--intrinsics", room / "intrinsics.json", "--poses", poses]
    images = map_images(room, slice(2, 8))
    outcome = vggt3("extend", first, *images, "--out", tmp_path / "new", *options)
    assert outcome.code == 1 and "not where odometry has them" in outcome.err, outcome
    assert not (tmp_path / "new").exists()


def odometry(file: Path, drive: RoomSequence, jump: float) -> Path:
    """Poses of the map images from the third on, in another frame; it jumps by so many metres after
    the fourth.
    """
    shift = torch.eye(4, dtype=torch.float64)
    lines = []
    for number, index in enumerate(drive.map_indices[2:]):
        shift[:3, 3] = torch.tensor([20.0, -7.0 + (jump if number >= 2 else 0.0), 0.0])
        pose = shift @ drive.world_from_cam[index]
        lines.append(f"{int(index)} {' '.join(map(repr, pose.flatten().tolist()))}")
    file.write_text("\n".join(lines))
    return file


def test_images_of_another_place_are_refused_and_nothing_is_written(
    vggt3: Run, room: Path, first: Path, tmp_path: Path
) -> None:
    places = tmp_path / "places"
    places.mkdir()
    for index in range(3):
        image = Image.open(room / "other.png").crop((index, 0, 320 - index, 240)).resize((320, 240))
        image.save(places / f"{index}.png")
    outcome = vggt3("extend", first, places, "--out", tmp_path / "new")
    assert outcome.code == 1 and "0 of 3 new images were found" in outcome.err, outcome
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["extend", "merge"])
def test_a_parent_is_not_written_over(
    vggt3: Run, command: str, room: Path, first: Path, second: Path
) -> None:
    given = [first, room / "map"] if command == "extend" else [second, first]
    before = contents(first)
    outcome = vggt3(command, *given, "--out", first)
    assert outcome.code == 2 and "name another folder" in outcome.err, outcome
    outcome = vggt3(command, *given, "--out", first.parent / "new", "--json", first / "scene.json")
    assert outcome.code == 2 and "would overwrite" in outcome.err, outcome
    assert contents(first) == before


def test_a_frame_of_none_of_the_scenes_is_refused(
    vggt3: Run, first: Path, second: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "merge", first, second, "--out", tmp_path / "new", "--frame-of", tmp_path / "other"
    )
    assert outcome.code == 2 and "none of the scenes" in outcome.err, outcome


def test_a_scene_of_another_network_is_refused(
    vggt3: Run, room: Path, first: Path, checkpoint: Path, tmp_path: Path
) -> None:
    outcome = vggt3("extend", first, room / "map", "--out", tmp_path / "new", "--model", checkpoint)
    assert outcome.code == 1 and "was made by network" in outcome.err, outcome
