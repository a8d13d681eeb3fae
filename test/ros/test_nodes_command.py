"""`vggt3 nodes`: the same nodes in one process, from the same YAML, for whoever has no `ros2
launch`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters

from ..patience import PATIENCE_S
from .processes import REPOSITORY, ask, wait_for


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vggt3_ros", "nodes", *arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_both_nodes_become_active_with_parameters_from_file_and_command_line(
    node: Any, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**/mapper:\n  ros__parameters:\n    min_frames: 11\n")
    scenes = f"mapper:scene_dir:={tmp_path / 'scenes'}"
    given = ("-p", scenes, "-p", "base_frame:=", "-p", "max_rate:=5", "-r", "image:=/front")
    process = start("--params-file", str(file), *given)
    try:
        for name in ("mapper", "localizer"):
            wait_for(
                lambda name=name: (
                    ask(
                        node, GetState, f"/vggt3/{name}/get_state", GetState.Request()
                    ).current_state.id
                    == State.PRIMARY_STATE_ACTIVE
                ),
                f"an active {name}",
            )
        names = ["min_frames", "scene_dir", "max_frames", "base_frame"]
        values = ask(
            node, GetParameters, "/vggt3/mapper/get_parameters", GetParameters.Request(names=names)
        ).values
        assert values[0].integer_value == 11
        assert values[1].string_value == str(tmp_path / "scenes")
        assert values[2].integer_value == 200 and values[3].string_value == ""
        wait_for(
            lambda: node.count_subscribers("/front") == 2,
            "both nodes to listen to the remapped camera",
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()


# By what is named in the answer; all in one process, since nothing of ROS has begun yet when they
# are refused.
REFUSED_AT_ONCE = {
    "/nowhere.yaml": ("--params-file", "/nowhere.yaml"),
    "max_rate=3": ("-p", "max_rate=3"),
    "there is no node 'camera'": ("-p", "camera:max_rate:=3.0"),
    "none of mapper, localizer has 'max_rat' (did you mean 'max_rate'?)": ("-p", "max_rat:=3"),
    "none of mapper has 'max_rate'": ("-p", "mapper:max_rate:=3"),
    "no topic or service here is called 'imge' (did you mean 'image'?)": ("-r", "imge:=/front"),
    "max_rate is None; expected number": ("-p", "max_rate:="),
    "is no YAML value": ("-p", "base_from_camera:=[0"),
}
RUN_EACH = """
import json, sys
from vggt3_ros.cli.main import main
for arguments in json.loads(sys.argv[1]):
    print(main(["nodes", *arguments]), file=sys.stderr)
"""


def test_what_cannot_be_used_is_named_and_the_exit_code_is_1() -> None:
    command = [sys.executable, "-c", RUN_EACH, json.dumps(list(REFUSED_AT_ONCE.values()))]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    lines = done.stderr.splitlines()
    assert lines[1::2] == ["1"] * len(REFUSED_AT_ONCE), done.stderr
    for reason, line in zip(REFUSED_AT_ONCE, lines[::2], strict=True):
        assert line.startswith("vggt3: error: ") and reason in line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--only", "mapper", "-p", "min_frames:=900", "-p", "autostart:=true"), "min_frames"),
        (("--only", "localizer", "-p", "model:=/no/weights"), "/no/weights"),
    ],
)
def test_what_nodes_cannot_start_with_ends_them_with_exit_code_1(
    arguments: tuple[str, ...], reason: str
) -> None:
    process = start(*arguments)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and reason in output
