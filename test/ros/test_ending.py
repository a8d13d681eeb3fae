"""Signals that come while a program only starts: it ends at once, with exit code 0 and without a
word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..patience import PATIENCE_S
from .processes import REPOSITORY, wait_for

PROGRAMS = {
    "mapper_node": (signal.SIGINT, "-m", "vggt3_ros.nodes.mapper_node"),
    "localizer_node": (signal.SIGTERM, "-m", "vggt3_ros.nodes.localizer_node"),
    "viewer": (signal.SIGINT, "-m", "vggt3_ros.nodes.viewer_node"),
    "script": (signal.SIGTERM, "scripts/sim_camera"),
    "command": (signal.SIGINT, "scripts/vggt3", "nodes"),
}
SLOW = """
import time
from vggt3_ros.nodes import localizer_node

def load(settings):
    print("loading", flush=True)
    time.sleep(600)

localizer_node.network_of = load
localizer_node.main(["--ros-args", "-p", "autostart:=true"])
"""


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=REPOSITORY, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is being imported")
@pytest.mark.parametrize("program", PROGRAMS)
def test_while_torch_is_imported(program: str) -> None:
    number, *command = PROGRAMS[program]
    process = start(*command)
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(
        lambda: process.poll() is not None or "libtorch" in maps.read_text(),
        "torch to be loaded",
    )
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "")


def test_while_a_network_is_loaded() -> None:
    process = start("-c", SLOW)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("loading" in line for line in lines)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in output
