"""`vggt3 demo` with real processes: its report, a recorded camera, and how it ends when something
comes in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vggt3_ros.geometry.pointcloud import read_ply
from vggt3_ros.scene.storage import load_scene

pytest.importorskip("rosbags.rosbag2")

from .demo_runs import Recorder, RunningDemo
from .processes import wait_for


@dataclass(frozen=True)
class Finished:
    """A demo with the simulated camera, and the bags that were recorded meanwhile."""

    code: int
    stdout: str
    stderr: str
    out: Path
    report: dict[str, Any]
    json: Path
    bags: tuple[Path, Path]


@pytest.fixture(scope="module")
def finished(ros_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The demo from beginning to end, on a short way."""
    folder = tmp_path_factory.mktemp("demo")
    out, report = folder / "out", folder / "report.json"
    with Recorder(folder) as recorder:
        demo = RunningDemo(out, "--json", report, "--length", 1.5)
        code = demo.wait()
    assert code == 0, demo.stdout + demo.stderr
    return Finished(
        code, demo.stdout, demo.stderr, out, json.loads(report.read_text()), report, recorder.bags
    )


@pytest.fixture
def recorded(finished: Finished, tmp_path: Path) -> Iterator[RunningDemo]:
    """The demo with these bags, just begun."""
    there, back = finished.bags
    demo = RunningDemo(tmp_path / "out", "--bag", there, "--query-bag", back)
    yield demo
    demo.kill()


def test_the_demo_localizes_and_publishes_nothing_wrong(finished: Finished) -> None:
    report = finished.report
    assert report["failure"] is None and report["wrong"] == 0
    assert report["query_frames"] == report["localized"] + report["refused"]
    assert report["answerable"] <= report["query_frames"]
    assert report["localized_answerable"] >= 0.8 * report["answerable"] > 0
    assert (
        report["position_error_m"]["median"] < 0.05 and report["rotation_error_deg"]["median"] < 2
    )
    assert report["metric"] and report["verified"] and report["model"] == "tiny"
    assert report["image_to_pose_ms"]["median"] > 0
    assert "localized" in finished.stdout and "0 poses wrong" in finished.stdout


def test_the_demo_leaves_the_files_that_it_names(finished: Finished) -> None:
    names = {"report.json", "top_view.png", "points.ply", "scene", "logs"}
    assert {entry.name for entry in finished.out.iterdir()} == names
    assert finished.json.read_text() == (finished.out / "report.json").read_text()
    scene = load_scene(finished.out / "scene")
    assert scene.scene_id == finished.report["scene_id"]
    assert len(scene.keyframes) == finished.report["frames_mapped"] >= 8
    assert len(read_ply(finished.out / "points.ply")) == len(scene.points) > 0
    with Image.open(finished.out / "top_view.png") as picture:
        assert picture.width > 800
    assert {log.stem for log in (finished.out / "logs").iterdir()} == {
        "sim_camera",
        "mapper",
        "localizer",
    }


def test_every_image_is_accounted_for(finished: Finished) -> None:
    messages = finished.report["dropped_messages"]
    for name in ("mapper", "localizer"):
        node = messages[name]
        assert (
            node["sent"] > finished.report["query_frames"]
            and node["lost"] == node["sent"] - node["received"] >= 0
        )
        assert 0 <= node["left_out"] <= node["received"]
    assert messages["lost"] == messages["mapper"]["lost"] + messages["localizer"]["lost"]


def test_a_recorded_camera_is_mapped_and_localized_without_the_truth(recorded: RunningDemo) -> None:
    assert recorded.wait() == 0, recorded.stdout + recorded.stderr
    report = json.loads((recorded.out / "report.json").read_text())
    assert report["camera"] == "there and back" and report["metric"] and report["localized"] >= 1
    assert (
        report["position_error_m"] == report["rotation_error_deg"] == {"median": None, "p90": None}
    )
    assert report["wrong"] is report["answerable"] is report["localized_answerable"] is None
    assert report["image_to_pose_ms"]["median"] > 0  # from when the image was played


def interrupt(demo: RunningDemo) -> set[str]:
    """Ctrl-C: it ends and leaves no process, no half-made file, no traceback; returns the names of
    its processes.
    """
    children = demo.children()
    demo.interrupt()
    assert demo.wait() == 130
    assert not any(child.is_running() for child in children.values())
    assert "all its processes have ended" in demo.stderr and "Traceback" not in demo.stderr
    assert not (demo.out / ".work").exists() and not (demo.out / "scene").exists()
    return set(children)


def test_ctrl_c_while_a_room_is_rendered(tmp_path: Path) -> None:
    demo = RunningDemo(tmp_path / "out")
    wait_for(lambda: "sim_camera_node" in demo.children(), "the simulated camera")
    assert "sim_camera_node" in interrupt(demo)


@pytest.mark.parametrize("line", ["started", "drove"])
def test_ctrl_c_while_mapping_and_while_the_scene_is_made(recorded: RunningDemo, line: str) -> None:
    recorded.wait_for_line(line)
    assert interrupt(recorded) == {"mapper_node", "localizer_node"}


def test_a_mapper_that_dies_ends_the_demo_with_its_log(recorded: RunningDemo) -> None:
    recorded.wait_for_line("started")
    children = recorded.children()
    children["mapper_node"].kill()
    assert recorded.wait() == 1
    assert not children["localizer_node"].is_running()
    assert (
        "mapper was ended by SIGKILL" in recorded.stderr and "collecting frames" in recorded.stderr
    )
