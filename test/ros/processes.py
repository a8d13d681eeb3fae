"""Nodes as real child processes, and waiting for what they do."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from ..patience import PATIENCE_S
from .fork_server import REPOSITORY, ForkedProgram

if TYPE_CHECKING:
    from rclpy.node import Node

T = TypeVar("T")
# a simulated camera without a start of its own drives off before those who watch it have come
_FORKED = ("mapper_node", "localizer_node")


def wait_for(predicate: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """The first true value of predicate(); fails the test with "waited ... for `what`" when none
    comes in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.02)


def ask(node: Node, kind: Any, name: str, request: Any, timeout_s: float = PATIENCE_S) -> Any:
    """Answer of a service that may be asked several times: it is, every 3 s.

    A server may be found, and asked, before it has found its client; then the request or the answer
    is lost.
    """
    client = node.create_client(kind, name)
    futures: list[Any] = []
    asked = -math.inf

    def answers() -> list[Any]:
        nonlocal asked
        if client.service_is_ready() and time.monotonic() - asked > 3.0:
            futures.append(client.call_async(request))
            asked = time.monotonic()
        return [future.result() for future in futures if future.done()]

    try:
        return wait_for(answers, f"the answer of {name}", timeout_s)[0]
    finally:
        node.destroy_client(client)


class NodeProcess:
    """`python -m vggt3_ros.nodes.<module> --ros-args ...` in a session of its own; what it prints
    goes to a file.

    parameters: name -> value; further arguments are taken as they are, for example "-r",
    "image:=/front/image". The environment is that of the tests: their ROS domain and Fast DDS
    profile. anew: start the interpreter for it, as a user does; otherwise mapper and localizer are
    forked from one that has imported what they need.
    """

    def __init__(
        self,
        log: Path,
        module: str,
        *arguments: str,
        namespace: str = "/vggt3",
        parameters: Mapping[str, Any] | None = None,
        anew: bool = False,
    ) -> None:
        self.module, self.log_path = module, log
        given = [
            part
            for name, value in (parameters or {}).items()
            for part in ("-p", f"{name}:={json.dumps(value)}")
        ]
        program = f"vggt3_ros.nodes.{module}"
        words = ["--ros-args", "-r", f"__ns:={namespace}", *given, *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | ForkedProgram
        with log.open("wb") as output:
            if module in _FORKED and not anew:
                self._process = ForkedProgram(program, words, environment, log)
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", program, *words],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when one ended it."""
        return self._process.poll()

    @property
    def rss_bytes(self) -> int:
        """Memory it holds now."""
        import psutil

        return int(psutil.Process(self.pid).memory_info().rss)

    def stop(self, signal_number: int = signal.SIGINT) -> int:
        """Ask it to end, as Ctrl-C does; returns its exit code, fails the test when it goes on."""
        if self.is_running:
            self._process.send_signal(signal_number)
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            name = signal.Signals(signal_number).name
            self.kill()
            pytest.fail(
                f"{self.module} still ran {PATIENCE_S:g} s after {name}; its log:\n{self.log}"
            )

    def kill(self) -> None:
        """End it and its children at once (SIGKILL)."""
        try:
            # it leads its own session, so this is nobody else's group
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
