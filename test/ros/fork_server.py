"""Nodes as forks of a program that has imported torch and the like, which takes seconds, once.

Each is a process with an environment, a log and a ROS context of its own, and it ends as a program
does: `__main__` returns, and the interpreter is taken down. How one starts is another matter.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
_POLL = 0.02  # seconds


class ForkedProgram:
    """`python -m MODULE ARGUMENTS...` in a session of its own, with the face of subprocess.Popen;
    what it prints goes to a file.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "log": str(log),
        }
        self.pid = int(_asked(request))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, minus the signal's number when one ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = _asked({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and timeout is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_POLL)
        return code

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-u", __file__],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    atexit.register(server.communicate)  # the end of its input ends it
    return server


def _asked(request: dict[str, Any]) -> Any:
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    return json.loads(server.stdout.readline())


def _serve() -> None:
    """Answer requests until there are no more. In a fork, be the program that was asked for."""
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            _prepare()
            ready, is_ready = os.pipe()
            answer = os.fork()
            if answer == 0:
                os.setsid()
                os.close(is_ready)
                return _become(**request)
            os.close(is_ready)
            os.read(ready, 1)  # until it has a session of its own, and can be killed
            os.close(ready)
        print(json.dumps(answer))


@cache
def _prepare() -> None:
    """Import what takes long, nothing of ROS: its tracing has threads that a fork lacks and misses
    when it ends.
    """
    for name in ("reconstruct", "localize"):
        importlib.import_module(f"vggt3_ros.pipeline.{name}")
    assert "rclpy" not in sys.modules


def _become(module: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    for stream, path, mode in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY)):
        os.dup2(os.open(path, mode), stream)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `python -m` has it
    _serve()
