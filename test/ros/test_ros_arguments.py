"""Arguments that ROS cannot use end in one line that says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import rclpy

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.runtime.config_files import config_file
from vggt3_ros.nodes.runtime.parameter_file import read_parameter_file
from vggt3_ros.nodes.runtime.ros_arguments import initialize

from ..patience import PATIENCE_S
from .processes import REPOSITORY

FILES = {
    "": "it is empty",
    "# nothing but a comment\n": "it is empty",
    "just words": "line 1: it holds no names",
    "- a\n- b\n": "line 1: it holds no names",
    "mapper: [1": "it is no YAML (line 1: ",
    "mapper:\n\tros__parameters:\n": "it is no YAML (line 2: ",
    "mapper:\n  min_frames: 3\n": (
        "line 2: 'min_frames' has a value without 'ros__parameters' above it"
    ),
    "mapper:\n  ros__parameters: 5\n": "line 2: 'ros__parameters' has a value for itself",
    "mapper:\n  ros__parameters:\n": "line 2: 'ros__parameters' has a value for itself",
    "ros__parameters:\n  min_frames: 3\n": (
        "line 1: there is no node's name above 'ros__parameters'"
    ),
    "mapper:\n  ros__parameters:\n    pose: [0.1, 0, 1e3]\n": (
        "line 3: pose mixes whole numbers and others; ROS takes "
        "lists of one type: write decimal points, 0.0 for 0"
    ),
    "amcl:\n  ros__parameters:\n    a: {b: ['1', 2]}\n": (
        "line 3: a.b is a list of several types (string, wh"
    ),
}


@pytest.mark.parametrize("text", FILES)
def test_a_bad_parameter_file_is_named_with_what_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_parameter_file(file)
    assert str(raised.value).startswith(f"parameter file {file}: {FILES[text]}")


def test_a_parameter_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_parameter_file(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_parameter_file(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\x80\x81")
    with pytest.raises(InputError, match="it is no YAML"):
        read_parameter_file(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "/**:\n  ros__parameters: {}\n",
        (
            "a:\n  ros__parameters: {x: [0.1, 1e3, .inf, -2.], y: [1, -2, 0x1f], z: [a, '1', on the"
            " left], w: []}\n"
        ),
        "robot:\n  vggt3:\n    mapper:\n      ros__parameters:\n        a: 1\n",
    ],
)
def test_good_parameter_files_pass(tmp_path: Path, text: str) -> None:
    read_parameter_file(config_file("mapper.yaml"))
    (tmp_path / "mine.yaml").write_text(text)
    read_parameter_file(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-r", "image=/front"), "'-r image=/front'"),
        (("-r", "__ns:=//x"), "'-r __ns:=//x'"),
        (("-p", "max_rate"), "'-p max_rate'"),
        (("-p",), "-p"),
        (("--params-fiel", "a.yaml"), "--params-fiel"),
        (("--log-level", "loud"), "--log-level loud"),
        (("--", "max_rate:=5.0"), "unknown arguments max_rate:=5.0"),
        (("--params-file", "{folder}/aliases.yaml"), "aliases.yaml"),
        (("-p", "base_from_camera:=[0.1, 0, 1]"), "mixes whole numbers and others"),
    ],
)
def test_arguments_that_ros_cannot_use_are_said_in_one_line(
    arguments: tuple[str, ...], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "aliases.yaml").write_text("mapper:\n  ros__parameters:\n    a: &x 1\n    b: *x\n")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    try:
        with pytest.raises(InputError) as raised:
            initialize(["--ros-args", *given])
    finally:
        rclpy.try_shutdown()
    message = str(raised.value)
    assert reason in message and "\n" not in message and ".c:" not in message
    assert capfd.readouterr().err == ""


def test_variables_that_ros_cannot_use_are_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "kitchen")
    with pytest.raises(InputError, match="ROS_DOMAIN_ID"):
        initialize([])
    rclpy.try_shutdown()


def test_a_node_ends_with_that_line_and_exit_code_1(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vggt3_ros.nodes.sim_camera_node",
        "--ros-args",
        "--params-file",
        str(tmp_path),
    ]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: parameter file {tmp_path}: Is a directory")
    assert ended.stderr.count("\n") == 1
