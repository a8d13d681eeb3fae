"""Nodes in processes of their own: none of them outlives the program that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vggt3_ros.nodes.demo.processes import ProcessEndedError, Processes

from ..patience import PATIENCE_S
from .processes import REPOSITORY, wait_for

PATIENT = "import time\nprint('[INFO] [1.2] [vggt3.x]: ready', flush=True)\ntime.sleep(600)\n"
DEAF = (
    "import signal\nfor number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number,"
    " signal.SIG_IGN)\n"
)
STUBBORN = DEAF + PATIENT
ORDERLY = "import atexit\natexit.register(print, 'all is saved')\n" + PATIENT
ASKED = (
    "import signal, time\nasked = []\nsignal.signal(signal.SIGINT, lambda *_:"
    " asked.append(print('asked', flush=True)))\nprint('[INFO] [1.2] [vggt3.x]: ready',"
    " flush=True)\nwhile not asked:\n    time.sleep(0.01)\ntime.sleep(0.5)\n"
)
FAILING = "print('reading the map')\nraise SystemExit('there is no map')\n"
PARENT = """
import sys, time
from pathlib import Path
from vggt3_ros.nodes.demo.processes import Processes
with Processes(Path(sys.argv[1])) as processes:
    processes.start("child", "stubborn_module", [])
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """patient_module and the others can be run."""
    sources = {
        "patient": PATIENT,
        "orderly": ORDERLY,
        "asked": ASKED,
        "stubborn": STUBBORN,
        "failing": FAILING,
    }
    for name, source in sources.items():
        (tmp_path / f"{name}_module.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(REPOSITORY)]))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_all_have_ended_after_the_context(tmp_path: Path) -> None:
    before = children()
    with Processes(tmp_path) as processes:
        for name in ("one", "two"):
            processes.start(name, "patient_module", [])
        started = [child for child in children() if child not in before]
        assert len(started) == 2
        wait_for(
            lambda: processes.last_line("one") == processes.last_line("two") == "ready",
            "both to be ready",
        )
        processes.require()
    assert not any(child.is_running() for child in started)


def test_each_may_end_in_order_first(processes: Processes, tmp_path: Path) -> None:
    processes.start("child", "orderly_module", [])
    wait_for(lambda: processes.last_line("child") == "ready", "it to be ready")
    processes.stop()
    assert "all is saved" in (tmp_path / "child.log").read_text()


def test_each_is_asked_once_though_it_was_asked_before(
    processes: Processes, tmp_path: Path
) -> None:
    """A second SIGINT ends programs at once."""
    processes.start("child", "asked_module", [])
    wait_for(lambda: processes.last_line("child") == "ready", "it to be ready")
    processes.ask_to_end()
    wait_for(lambda: processes.last_line("child") == "asked", "it to be asked")
    processes.stop()
    assert (tmp_path / "child.log").read_text().count("asked") == 1


def test_one_that_does_not_listen_is_killed(processes: Processes) -> None:
    before = children()
    processes.start("child", "stubborn_module", [])
    (child,) = (child for child in children() if child not in before)
    wait_for(lambda: processes.last_line("child") == "ready", "it to be ready")
    processes.stop()
    assert not child.is_running()


def test_an_impatient_interrupt_leaves_none_behind(processes: Processes) -> None:
    before = children()
    processes.start("child", "stubborn_module", [])
    (child,) = (child for child in children() if child not in before)
    wait_for(lambda: processes.last_line("child") == "ready", "it to be ready")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        processes.stop()
    assert not child.is_running()


def test_one_that_fails_is_noticed_with_its_last_lines(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("map", "failing_module", [])

    def failure() -> ProcessEndedError | None:
        try:
            processes.require()
        except ProcessEndedError as error:
            return error
        return None

    error = wait_for(failure, "it to end")
    assert (
        str(error)
        == f"map ended with exit code 1, though it is needed; read {tmp_path / 'map.log'}"
    )
    assert error.log_tail.splitlines() == ["reading the map", "there is no map"]


def test_one_that_is_killed_is_noticed(processes: Processes) -> None:
    before = children()
    processes.start("map", "patient_module", [])
    (child,) = (child for child in children() if child not in before)
    child.kill()
    wait_for(lambda: child.status() == psutil.STATUS_ZOMBIE, "it to end")
    with pytest.raises(ProcessEndedError, match="map was ended by SIGKILL"):
        processes.require()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_none_survives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        log = tmp_path / "child.log"
        wait_for(lambda: log.exists() and "ready" in log.read_text(), "the child to be ready")
        (child,) = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + PATIENCE_S
    while (
        child.is_running()
        and child.status() != psutil.STATUS_ZOMBIE
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
