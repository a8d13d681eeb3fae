"""`vggt3 localize --log` and `vggt3 refresh`: a room in which furniture was moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.worlds.moved import on_moved_furniture, plan_moved_room
from vggt3_ros.worlds.sequence import RoomSequence, revisit, room_sequence

from .conftest import main

Run = Callable[..., Any]
SEED = 900_018  # a sixth of what its drive shows is going to be moved
VIEWS = 20


@pytest.fixture(scope="module")
def drive() -> RoomSequence:
    """Eight frames of the room as it was."""
    return room_sequence(SEED, 8, 0, length=2.5)


@pytest.fixture(scope="module")
def room(drive: RoomSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as files: map/, poses.txt, intrinsics.json; and moved/, after furniture was."""
    folder = tmp_path_factory.mktemp("room")
    depth = torch.from_numpy(drive.depth)
    given = (SEED, drive.world_from_cam, depth, drive.intrinsics)
    moved, _ = revisit(*given, VIEWS, 0, plan_moved_room)
    for name, images in (("map", drive.images), ("moved", moved)):
        (folder / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{index:06d}.png")
    rows = [pose.flatten().tolist() for pose in drive.world_from_cam]
    (folder / "poses.txt").write_text(
        "\n".join(f"{index} {' '.join(map(repr, row))}" for index, row in enumerate(rows))
    )
    (fx, _, cx), (_, fy, cy), _ = drive.intrinsics.tolist()
    (folder / "intrinsics.json").write_text(json.dumps({"fx": fx, "fy": fy, "cx": cx, "cy": cy}))
    return folder


@pytest.fixture(scope="module")
def monday(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The room, mapped with its poses."""
    folder = tmp_path_factory.mktemp("monday") / "monday"
    known = ["--poses", room / "poses.txt", "--intrinsics", room / "intrinsics.json"]
    arguments = ("map", room / "map", "--out", folder, *known, "--dense", "off")
    assert main([str(each) for each in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def log(monday: Path, room: Path) -> Path:
    """What the room says of its map after furniture was moved."""
    path = monday.parent / "friday.log"
    known = ["--intrinsics", room / "intrinsics.json", "--log", path]
    assert main([str(each) for each in ("localize", monday, room / "moved", *known)]) == 0
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_moved_is_left_out_of_the_successor(
    vggt3: Run, monday: Path, log: Path, room: Path, tmp_path: Path
) -> None:
    before = contents(monday)
    report = tmp_path / "refresh.json"
    outcome = vggt3("refresh", monday, log, "--out", tmp_path / "new", "--json", report)
    assert outcome.code == 0 and "stays     the network's memory" in outcome.out, outcome
    assert contents(monday) == before
    old, new = load_scene(monday), load_scene(tmp_path / "new")
    assert new.continues(old.scene_id) and new.is_verified
    assert [parent.name for parent in new.parents] == ["monday"]
    data = json.loads(report.read_text())
    assert data["landmarks"] == len(new.landmarks["positions"])
    assert data["landmarks_before"] - data["landmarks"] >= data["landmarks_gone"] > 0
    assert 0 < len(new.points) < len(old.points)
    left = {tuple(each) for each in new.landmarks["positions"].tolist()}
    gone = [each for each in old.landmarks["positions"].tolist() if tuple(each) not in left]
    assert on_moved_furniture(SEED, torch.tensor(gone).double().numpy()).mean() > 0.8
    answers = tmp_path / "answers.json"
    known = ["--intrinsics", room / "intrinsics.json", "--json", answers]
    assert vggt3("localize", tmp_path / "new", room / "map", *known).code == 0
    verified = [each["status"] == "VERIFIED" for each in json.loads(answers.read_text())["images"]]
    assert sum(verified) >= 6
    outcome = vggt3("refresh", tmp_path / "new", log, "--out", tmp_path / "newer")
    assert outcome.failed_with(f"{log} is a log of scene {old.scene_id}, not of {new.scene_id}")
    assert not (tmp_path / "newer").exists()


def test_a_room_as_it_was_mapped_is_not_refreshed(
    vggt3: Run, monday: Path, room: Path, tmp_path: Path
) -> None:
    log = tmp_path / "monday.log"
    known = ["--intrinsics", room / "intrinsics.json", "--log", log]
    assert vggt3("localize", monday, room / "map", *known).code == 0
    assert len(SceneLog.load(log).views) >= 6
    outcome = vggt3("refresh", monday, log, "--out", tmp_path / "new")
    assert outcome.failed_with("nothing of monday has gone") and not (tmp_path / "new").exists()


def test_damaged_logs_and_places_to_write_are_refused(
    vggt3: Run, monday: Path, log: Path, room: Path, tmp_path: Path
) -> None:
    before = contents(monday)
    bad = tmp_path / "bad.log"
    bad.write_bytes(log.read_bytes()[:-3])
    new = tmp_path / "new"
    assert vggt3("refresh", monday, bad, "--out", new).failed_with(f"{bad} is damaged")
    assert vggt3("refresh", monday, room / "poses.txt", "--out", new).failed_with("is no log")
    assert vggt3("refresh", monday, tmp_path / "no", "--out", new).failed_with("cannot read")
    assert vggt3("refresh", monday, log, "--out", monday).failed_with("another folder", code=2)
    outcome = vggt3("refresh", monday, log, "--out", new, "--json", log)
    assert outcome.failed_with("would overwrite", code=2)
    for path, message in (
        (monday / "scene.json", "would overwrite"),
        (tmp_path / "none" / "a.log", "there is no folder"),
    ):
        outcome = vggt3("localize", monday, room / "moved", "--log", path)
        assert message in outcome.err and outcome.code in (1, 2), outcome
    assert contents(monday) == before and not new.exists()
    outcome = vggt3("localize", monday, room / "moved", "--log", bad, "--refine", "none")
    assert outcome.failed_with("poses are not verified (--refine none)")
