"""What the launch files start, and with what: with programs that only note it in place of the
nodes, and for real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

pytest.importorskip(
    "launch_ros", reason="launch files are for ROS from apt: PyPI has no launch_ros"
)

from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.logging import get_logger
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from ..patience import PATIENCE_S
from .processes import REPOSITORY, ask, wait_for

EXECUTABLES = {"vggt3_ros": ("mapper", "localizer", "sim_camera"), "rviz2": ("rviz2",)}
PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
NOTE = """#!/bin/sh
env > "$0.environment"
printf '%s\\n' "$@" > "$0.arguments"
"""


@dataclass
class Started:
    """Command line and environment that a launch file gave to a node."""

    arguments: list[str]
    environment: dict[str, str]

    def options(self, flag: str) -> list[str]:
        """What follows each occurrence of a flag."""
        return [value for name, value in pairwise(self.arguments) if name == flag]

    @property
    def remappings(self) -> dict[str, str]:
        pairs = (rule.split(":=", 1) for rule in self.options("-r"))
        return dict(pairs)

    @property
    def full_name(self) -> str:
        return f"{self.remappings.get('__ns', '')}/{self.remappings['__node']}"

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of all files, as rcl merges them: later ones win."""
        merged: dict[str, Any] = {}
        for file in self.options("--params-file"):
            for pattern, content in yaml.safe_load(Path(file).read_text(encoding="utf-8")).items():
                if pattern in ("/**", f"/**/{self.remappings['__node']}", self.full_name):
                    merged.update(content["ros__parameters"])
        return merged


Launch = Callable[..., dict[str, Started]]
NEEDED: dict[str, dict[str, str]] = {
    "map": {},
    "localize": {"scene_dir": "/data/office"},
    "demo": {},
}


def ament_prefix(folder: Path) -> Path:
    """An installation of our package and of RViz without executables; returns the folder these
    belong to.
    """
    for package in EXECUTABLES:
        (folder / "share" / package).mkdir(parents=True)
        (folder / "lib" / package).mkdir(parents=True)
        index = folder / "share/ament_index/resource_index/packages"
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
    shutil.copytree(REPOSITORY / "config", folder / "share/vggt3_ros/config")
    return folder / "lib"


def is_ours(file: str, name: str) -> bool:
    """Whether a file is the one in config/, or a copy that was installed from it."""
    return Path(file).read_bytes() == (REPOSITORY / "config" / name).read_bytes()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What launch logs: its logger hands nothing on to the root's handlers."""
    logger = get_logger("launch")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launch]:
    """launch("map", image_topic="/camera") runs a launch file; what it started, by executable."""
    library = ament_prefix(tmp_path)
    for package, executables in EXECUTABLES.items():
        for executable in executables:
            (library / package / executable).write_text(NOTE, encoding="utf-8")
            (library / package / executable).chmod(0o755)
    # launch_ros leaves parameter files behind
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(name: str, expected_exit: int = 0, **arguments: str) -> dict[str, Started]:
        file = REPOSITORY / "launch" / f"{name}.launch.py"
        for note in library.glob("*/*.arguments"):  # of an earlier run
            note.unlink()
        service = LaunchService(noninteractive=True)
        source = PythonLaunchDescriptionSource(str(file))
        service.include_launch_description(
            LaunchDescription(
                [IncludeLaunchDescription(source, launch_arguments=arguments.items())]
            )
        )
        assert service.run() == expected_exit
        started = {}
        for note in library.glob("*/*.arguments"):
            environment = note.with_suffix(".environment").read_text(encoding="utf-8").splitlines()
            pairs = dict(line.split("=", 1) for line in environment if "=" in line)
            started[note.stem] = Started(note.read_text(encoding="utf-8").splitlines(), pairs)
        return started

    with mock.patch.dict(
        os.environ, AMENT_PREFIX_PATH=str(tmp_path), ROS_LOG_DIR=str(tmp_path / "log")
    ):
        for variable in (*PROFILES, "ROS_DISTRO"):
            os.environ.pop(variable, None)
        yield run


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("map", {"mapper", "localizer"}),
        ("localize", {"localizer"}),
        ("demo", {"sim_camera", "mapper", "localizer"}),
    ],
)
def test_launch_file_starts_its_nodes_in_the_namespace(
    launch: Launch, name: str, nodes: set[str]
) -> None:
    started = launch(name, rviz="false", **NEEDED[name])
    assert {executable: node.full_name for executable, node in started.items()} == {
        node: f"/vggt3/{node}" for node in nodes
    }


@pytest.mark.parametrize("name", ["map", "localize", "demo"])
def test_without_arguments_the_defaults_hold_and_nodes_activate_themselves(
    launch: Launch, name: str
) -> None:
    for executable, node in launch(name, rviz="false", **NEEDED[name]).items():
        if executable != "sim_camera":
            document = yaml.safe_load(
                (REPOSITORY / "config" / f"{executable}.yaml").read_text(encoding="utf-8")
            )
            defaults = document[f"/**/{executable}"]["ros__parameters"]
            fixed = {"follow_mapper": False, **NEEDED[name]} if name == "localize" else {}
            assert node.parameters == {**defaults, "autostart": True, **fixed}


def test_camera_of_the_demo_is_understood_by_its_nodes(launch: Launch) -> None:
    for node in launch("demo", rviz="false").values():
        assert set(node.remappings) == {"__node", "__ns"}


@pytest.mark.parametrize("name", ["map", "localize"])
def test_image_topic_brings_its_compressed_images_and_calibration(
    launch: Launch, name: str
) -> None:
    for node in launch(name, image_topic="/front/image_raw", **NEEDED[name]).values():
        assert node.remappings["image"] == "/front/image_raw"
        assert node.remappings["image/compressed"] == "/front/image_raw/compressed"
        assert node.remappings["camera_info"] == "/front/camera_info"


def test_calibration_can_be_elsewhere(launch: Launch) -> None:
    for node in launch(
        "map", image_topic="/front/image_raw", camera_info_topic="/calibration"
    ).values():
        assert node.remappings["camera_info"] == "/calibration"


def test_named_odometry_topic_is_listened_to(launch: Launch) -> None:
    for node in launch("map", odom_topic="/wheels/odom").values():
        assert node.remappings["odom"] == "/wheels/odom"
        assert node.parameters["odometry_source"] == "topic"


def test_named_depth_topic_is_listened_to_by_the_mapper(launch: Launch) -> None:
    started = launch("map", depth_topic="/front/depth")
    assert started["mapper"].remappings["depth"] == "/front/depth"
    assert started["mapper"].parameters["use_depth"] is True
    assert "use_depth" not in started["localizer"].parameters


def test_arguments_become_parameters_of_both_nodes(launch: Launch) -> None:
    given = {
        "model": "/weights/large.safetensors",
        "device": "cuda:1",
        "base_frame": "base_footprint",
    }
    for node in launch("map", **given).values():
        assert given.items() <= node.parameters.items()


def test_folder_of_scenes_is_the_mappers_where_there_is_one(launch: Launch) -> None:
    started = launch("map", scene_dir="/data/scenes")
    assert started["mapper"].parameters["scene_dir"] == "/data/scenes"
    assert started["localizer"].parameters["scene_dir"] == ""


def test_stored_scene_is_the_localizers_where_it_is_alone(launch: Launch) -> None:
    parameters = launch("localize", scene_dir="/data/scenes")["localizer"].parameters
    assert parameters["scene_dir"] == "/data/scenes" and parameters["follow_mapper"] is False


def test_folder_named_like_a_number_stays_a_name(launch: Launch) -> None:
    assert launch("localize", scene_dir="2026")["localizer"].parameters["scene_dir"] == "2026"


def test_own_parameter_file_beats_the_defaults_and_arguments_beat_both(
    launch: Launch, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("/**/mapper: {ros__parameters: {model: mine, chunk: 2}}\n", encoding="utf-8")
    mapper = launch("map", params_file=str(own), model="theirs")["mapper"]
    assert (mapper.parameters["chunk"], mapper.parameters["model"]) == (2, "theirs")


def test_missing_parameter_file_starts_nothing(launch: Launch) -> None:
    assert launch("map", expected_exit=1, params_file="/nowhere/own.yaml") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("mapper: {ros__parameters: {min_frames: 4}}", "sets nothing for /vggt3/mapper"),
        (
            "/**/localizer: {ros__parameters: {max_rat: 2.0}}",
            "is called 'max_rat' (did you mean 'max_rate'?)",
        ),
        ("max_rate: 2.0", "'max_rate' has a value without 'ros__parameters' above it"),
        ("{", "it is no YAML"),
    ],
)
def test_parameter_file_that_gives_nothing_or_what_is_unknown_starts_nothing(
    launch: Launch, tmp_path: Path, content: str, words: str, said: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(content, encoding="utf-8")
    assert launch("map", expected_exit=1, params_file=str(own)) == {}
    assert words in said.text


@pytest.mark.parametrize("given", [{}, {"scene_dir": ""}])
def test_localizer_alone_without_a_scene_starts_nothing(
    launch: Launch, given: dict[str, str], said: pytest.LogCaptureFixture
) -> None:
    assert launch("localize", expected_exit=1, rviz="true", **given) == {}
    assert "scene_dir is empty" in said.text


def test_scene_may_be_named_by_the_parameter_file(launch: Launch, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "/**/localizer: {ros__parameters: {scene_dir: /data/office}}\n", encoding="utf-8"
    )
    assert (
        launch("localize", params_file=str(own))["localizer"].parameters["scene_dir"]
        == "/data/office"
    )
    own.write_text("/**/mapper: {ros__parameters: {scene_dir: /data/office}}\n", encoding="utf-8")
    assert launch("localize", expected_exit=1, params_file=str(own)) == {}, (
        "that is where the mapper saves"
    )


@pytest.mark.parametrize("way", ["package", "path"])
def test_unknown_argument_starts_nothing(
    launch: Launch, way: str, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    file = REPOSITORY / "launch/map.launch.py"
    asked = ["vggt3_ros", file.name] if way == "package" else [str(file)]
    monkeypatch.setattr(sys, "argv", ["/opt/ros/bin/ros2", "launch", *asked, "image_topc:=/camera"])
    assert launch("map", expected_exit=1, image_topc="/camera") == {}
    assert "there is no launch argument 'image_topc' (did you mean 'image_topic'?)" in said.text


def test_arguments_of_a_launch_file_that_includes_ours_are_its_own(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/opt/ros/bin/ros2", "launch", "my_robot", "map.launch.py", "slam:=true"]
    )
    assert set(launch("map", slam="true")) == {"mapper", "localizer"}


def test_frames_and_the_transforms_of_one_robot_reach_every_node(launch: Launch) -> None:
    frames = {
        "map_frame": "r1/map",
        "odom_frame": "r1/odom",
        "base_frame": "r1/base",
        "camera_frame": "r1/camera",
    }
    started = launch("demo", namespace="r1/vggt3", tf_topic="/r1/tf", rviz="true", **frames)
    assert started["rviz2"].options("-f") == ["r1/map"]
    for name, node in started.items():
        assert (
            node.remappings["/tf"] == "/r1/tf" and node.remappings["/tf_static"] == "/r1/tf_static"
        )
        if name != "rviz2":
            assert (
                frames.items() <= node.parameters.items() and node.full_name == f"/r1/vggt3/{name}"
            )


def test_static_transforms_can_be_elsewhere(launch: Launch) -> None:
    node = launch("map", tf_topic="/r1/tf", tf_static_topic="/tf_static")["localizer"]
    assert node.remappings["/tf"] == "/r1/tf" and "/tf_static" not in node.remappings


@pytest.mark.parametrize(("given", "expected"), [("''", ""), ('""', ""), ("", "base_link")])
def test_robot_frame_that_is_given_empty_in_quotes_is_none(
    launch: Launch, given: str, expected: str
) -> None:
    assert launch("map", base_frame=given)["mapper"].parameters["base_frame"] == expected


@pytest.mark.parametrize(
    "given",
    [
        {"image_topic": "/front/image_raw", "image_transport": "compressed"},
        {"image_topic": "/front/image_raw/compressed"},
    ],
)
def test_compressed_images_are_asked_for_by_transport_or_by_name(
    launch: Launch, given: dict[str, str]
) -> None:
    for node in launch("map", **given).values():
        assert node.parameters["image_transport"] == "compressed"
        assert node.remappings["image/compressed"] == "/front/image_raw/compressed"
        assert (node.remappings["image"], node.remappings["camera_info"]) == (
            "/front/image_raw",
            "/front/camera_info",
        )


def test_missing_rviz_starts_nothing_that_would_go_on_without_it(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "share/ament_index/resource_index/packages/rviz2").unlink()
    assert launch("map", expected_exit=1, rviz="true") == {}


@pytest.mark.parametrize(("argument", "expected"), [("true", True), ("false", False)])
def test_simulated_time_reaches_every_node(launch: Launch, argument: str, expected: bool) -> None:
    started = launch("map", use_sim_time=argument, rviz="true")
    assert [node.parameters["use_sim_time"] for node in started.values()] == [expected] * 3


@pytest.mark.parametrize("name", ["map", "localize", "demo"])
def test_rviz_comes_with_our_displays_when_asked_for(launch: Launch, name: str) -> None:
    rviz = launch(name, rviz="true", **NEEDED[name])["rviz2"]
    (file,) = rviz.options("-d")
    assert is_ours(file, "vggt3.rviz")


def test_the_demo_shows_rviz_where_there_is_one(launch: Launch, tmp_path: Path) -> None:
    assert "rviz2" in launch("demo")
    (tmp_path / "share/ament_index/resource_index/packages/rviz2").unlink()
    (tmp_path / "lib/rviz2/rviz2.arguments").unlink()  # by which the first one was told
    assert set(launch("demo")) == {"sim_camera", "mapper", "localizer"}


def test_rviz_follows_the_namespace_and_the_image_topic(launch: Launch) -> None:
    rviz = launch("map", rviz="true", namespace="robot", image_topic="/front/image_raw")["rviz2"]
    text = (REPOSITORY / "config/vggt3.rviz").read_text(encoding="utf-8")
    shown = {
        line.split()[-1] for line in text.splitlines() if line.strip().startswith("Value: /vggt3/")
    }
    expected = {topic: topic.replace("/vggt3/", "/robot/") for topic in shown}
    expected["/vggt3/image"] = "/front/image_raw"
    assert {
        origin: target for origin, target in rviz.remappings.items() if origin.startswith("/")
    } == expected


def test_fast_dds_profile_is_set(launch: Launch) -> None:
    for node in launch("demo").values():
        assert is_ours(node.environment[PROFILES[0]], "fastdds.xml")
        assert PROFILES[1] not in node.environment  # from Kilted on it would be warned of


@pytest.mark.parametrize("variable", PROFILES)
def test_fast_dds_profile_of_the_user_stays(launch: Launch, variable: str) -> None:
    with mock.patch.dict(os.environ, {variable: "/own.xml"}):
        for node in launch("demo").values():
            assert {
                name: node.environment[name] for name in PROFILES if name in node.environment
            } == {variable: "/own.xml"}


@pytest.fixture
def ros2_launch(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """ros2_launch("map", "scene_dir:=/tmp/x") runs the real thing with the nodes of this
    checkout.
    """
    beside = Path(sys.executable).parent / "ros2"
    ros2 = str(beside) if beside.exists() else shutil.which("ros2")
    if ros2 is None:
        pytest.skip("there is no ros2 command")
    library = ament_prefix(tmp_path)
    for executable in EXECUTABLES["vggt3_ros"]:
        shutil.copy(REPOSITORY / "scripts" / executable, library / "vggt3_ros" / executable)
    existing = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": os.pathsep.join([str(tmp_path), existing]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        file = REPOSITORY / "launch" / f"{name}.launch.py"
        process = subprocess.Popen(
            [ros2, "launch", str(file), *arguments],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            # it leads a session of its own, which its nodes belong to
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def test_nodes_really_become_active_with_their_parameters_and_end_with_the_launch(
    ros2_launch: Callable[..., subprocess.Popen[bytes]], node: Node, tmp_path: Path
) -> None:
    scenes = tmp_path / "scenes"
    process = ros2_launch("map", "namespace:=robot", f"scene_dir:={scenes}", "device:=cpu")
    for name in ("mapper", "localizer"):
        request = GetState.Request()

        def is_active(service: str = f"/robot/{name}/get_state", request: Any = request) -> bool:
            return bool(
                ask(node, GetState, service, request).current_state.id == State.PRIMARY_STATE_ACTIVE
            )

        wait_for(is_active, f"{name} to become active")
    answer = ask(
        node,
        GetParameters,
        "/robot/mapper/get_parameters",
        GetParameters.Request(names=["scene_dir"]),
    )
    assert answer.values[0].string_value == str(scenes)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
