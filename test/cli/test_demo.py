from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image

from vggt3_ros.cli.demo.folder import DemoFolder
from vggt3_ros.cli.demo.phases import Demo
from vggt3_ros.cli.demo.picture import draw_demo
from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.evaluation.live_run import LiveRun
from vggt3_ros.interrupts import Interrupts
from vggt3_ros.scene.storage import load_scene


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--query-bag", "b"], "--query-bag is played after --bag"),
        (["--rate", "2"], "--rate is for bags"),
        (["--topic", "odom=/odom"], "--topic is for bags"),
        (["--bag", "b", "--topic", "odom"], "expected NAME=TOPIC"),
        (["--bag", "b", "--seed", "3"], "leave them out with --bag"),
        (["--bag", "b", "--length", "3"], "leave them out with --bag"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], fragment: str, vggt3: Callable[..., Any], tmp_path: Path
) -> None:
    assert vggt3("demo", "--out", tmp_path / "out", *arguments).failed_with(fragment, code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["report.json", "top_view.png", "points.ply", "scene", "logs"])
def test_a_file_of_somebody_else_is_not_harmed(
    name: str, vggt3: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    outcome = vggt3("demo", "--out", tmp_path)
    assert outcome.code == 1 and str(tmp_path) in outcome.err
    assert [entry.name for entry in tmp_path.iterdir()] == [name] and (
        tmp_path / name
    ).read_text() == "mine"


def test_a_json_report_goes_nowhere_where_it_would_harm(
    vggt3: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert vggt3("demo", "--out", out, "--json", tmp_path / "no" / "x.json").failed_with(
        "--json", "no folder"
    )
    out.mkdir()
    assert vggt3("demo", "--out", out, "--json", out / "top_view.png").failed_with(
        "would overwrite", code=2
    )
    bag = tmp_path / "bag"
    bag.mkdir()
    (bag / "metadata.yaml").write_text("")
    arguments = ("--bag", bag, "--json", bag / "metadata.yaml")
    assert vggt3("demo", "--out", out, *arguments).failed_with("would overwrite", code=2)


def test_files_beside_those_of_the_demo_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim_and_release(tmp_path)
    claim_and_release(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_folder_of_an_earlier_demo_is_used_again(tmp_path: Path) -> None:
    folder = claim_and_release(tmp_path / "out")
    folder.picture.write_text("an old one")
    (folder.logs / "mapper.log").write_text("old")
    folder.work.mkdir()
    (folder.work / "scene").mkdir()  # left by one that was killed
    again = DemoFolder(tmp_path / "out")
    again.claim()
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["logs", "report.json"]
    assert not any(folder.logs.iterdir())
    again.release()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = DemoFolder(tmp_path), DemoFolder(tmp_path)
    first.claim()
    with pytest.raises(InputError, match="another demo is writing"):
        second.claim()
    first.release()
    second.claim()
    second.release()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    folder = claim_and_release(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    folder.logs.rmdir()
    folder.logs.symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="is not what a demo has written"):
        DemoFolder(tmp_path / "out").claim()


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match="is a file"):
        DemoFolder(tmp_path / "file" / "out").check()


def counts(received: int, left_out: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        frames_received=received, frames_skipped=left_out, frames_dropped=0, last_drop_reason=""
    )


@pytest.mark.parametrize(
    ("mapper", "localizer", "answers", "ends"),
    [
        (counts(14), counts(14, left_out=3), 3, True),
        (counts(13), counts(14, left_out=3), 3, False),  # one more is on its way to the mapper
        (counts(14), counts(13, left_out=3), 3, False),
        (counts(14), counts(14, left_out=3), 2, False),
        (counts(14), counts(14, left_out=2), 3, False),
    ],
)
def test_the_second_drive_ends_when_both_nodes_have_all_images_and_each_has_an_answer(
    mapper: SimpleNamespace, localizer: SimpleNamespace, answers: int, ends: bool
) -> None:
    """Of ten images before and four on the drive: the localizer had left out two of the ten."""
    client = SimpleNamespace(
        mapper=counts(10),
        localizer=counts(10, left_out=2),
        attempts={},
        forget_attempts=lambda: None,
    )

    class Camera:
        images_sent = 10

        def drive(self, leg: int, session: object, tell: object) -> None:
            self.images_sent = 14
            client.mapper = mapper
            client.localizer = localizer
            client.attempts = {n: SimpleNamespace(processing_time=0.1) for n in range(answers)}

    settled: list[bool] = []
    session = SimpleNamespace(client=client, settle=lambda *_, is_all: settled.append(is_all()))
    Demo(cast("Any", session), cast("Any", Camera())).drive_to_localize()
    assert settled == [ends]


def test_the_first_interrupt_waits_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        interrupts.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("truth", [True, False])
def test_the_picture_is_drawn_with_and_without_the_truth(
    truth: bool, finished_scene: Path, tmp_path: Path
) -> None:
    scene = load_scene(finished_scene)
    poses = scene.map_from_keyframes
    true = dict(enumerate(poses)) if truth else {}
    run = LiveRun({0: "too dark"}, {1: poses[1], 2: poses[2]}, {}, poses, true)
    draw_demo(scene, run, run.figures(), tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.width > 800 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_a_picture_needs_no_poses(finished_scene: Path, tmp_path: Path) -> None:
    scene = load_scene(finished_scene)
    run = LiveRun({}, {}, {}, scene.map_from_keyframes)
    bare = replace(scene, points=scene.points[torch.zeros(0, dtype=torch.long)])
    draw_demo(bare, run, run.figures(), tmp_path / "view.png")
    assert (tmp_path / "view.png").exists()


def claim_and_release(path: Path) -> DemoFolder:
    folder = DemoFolder(path)
    folder.claim()
    assert json.loads(folder.report.read_text()) == {"made_by": "vggt3 demo", "finished": False}
    folder.release()
    return folder
