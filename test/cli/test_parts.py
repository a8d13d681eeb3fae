"""`vggt3 map` of a drive that comes apart, and `vggt3 extend` by a drive that ties its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vggt3_ros.evaluation.metrics import align_map
from vggt3_ros.maps import apart
from vggt3_ros.scene.storage import load_scene

from ..two_rooms import FIRST, HERE, LATER, two_rooms

Run = Callable[..., Any]
NAMES = [f"{place:06d}.png" for place in FIRST]


def test_two_rooms_are_two_scenes_until_a_drive_through_the_door(
    vggt3: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_MIN_FRAMES", len(FIRST) - HERE)
    rooms = two_rooms()
    known = ["--intrinsics", rooms.write_intrinsics(tmp_path / "camera.json")]
    home = tmp_path / "home"
    report = tmp_path / "report.json"
    first = rooms.write(FIRST, tmp_path / "first")
    outcome = vggt3("map", first, "--out", home, "--dense", "off", *known, "--json", report)
    assert outcome.code == 0, outcome
    assert f"6 images ({NAMES[0]} to {NAMES[HERE - 1]})" in outcome.out
    data = json.loads(report.read_text())
    assert [part["scene"] for part in data["parts"]] == [str(home), f"{home}-part2"]
    assert [part["images"] for part in data["parts"]] == [NAMES[:HERE], NAMES[HERE:]]
    assert data["in_no_part"] == []

    scene = load_scene(home)
    other = load_scene(tmp_path / "home-part2")
    assert scene.is_verified and other.is_verified
    assert [each.name for each in scene.siblings] == ["home-part2"]
    assert [each.scene_id for each in other.siblings] == [scene.scene_id]
    assert scene.frames_in_no_part == () and list(scene.siblings[0].frames) == NAMES[HERE:]
    outcome = vggt3("info", home, "--json", report)
    assert f"home-part2 ({other.scene_id}) has 5 frames" in outcome.out
    assert json.loads(report.read_text())["siblings"][0]["frames"] == NAMES[HERE:]

    later = rooms.write(LATER, tmp_path / "later")
    outcome = vggt3("extend", home, later, "--out", tmp_path / "home-part2", *known)
    assert outcome.failed_with("is another part of the drive", "name another folder", code=2)
    outcome = vggt3("extend", home, later, "--out", tmp_path / "both", *known, "--json", report)
    assert outcome.code == 0 and "home-part2 is tied to it now, and joined" in outcome.out, outcome
    data = json.loads(report.read_text())
    assert data["siblings_joined"] == ["home-part2"] and data["siblings_apart"] == []
    both = load_scene(tmp_path / "both")
    parents = [parent.scene_id for parent in both.parents]
    assert parents == [scene.scene_id, other.scene_id] and both.siblings == ()
    rows = list(both.keyframes_with_landmarks)
    places = [int(both.keyframes.names[row][-10:-4]) for row in rows]
    assert set(FIRST) <= set(places) and len(rows) == len(both.keyframes)
    true = rooms.world_from_cam[places]
    poses = both.map_from_keyframes[rows]
    aligned = align_map(poses, true).true_from_estimated.poses(poses)
    assert float((aligned - true)[:, :3, 3].norm(dim=1).max()) < 0.05
