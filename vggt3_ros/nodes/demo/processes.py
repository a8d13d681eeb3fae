"""Nodes in processes of their own, none of which outlives the program that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vggt3_ros.errors import Vggt3Error

# seconds to wait; SIGKILL comes last
_AFTER_SIGINT = 5.0
_AFTER_SIGTERM = 2.0
_POLL = 0.02  # seconds
_TAIL = 15  # lines of a log that say why a process ended
_PR_SET_PDEATHSIG = 1


class ProcessEndedError(Vggt3Error):
    """A process ended though it was needed. `log_tail`: the last lines that it printed."""

    def __init__(self, message: str, log_tail: str) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class Processes:
    """Starts nodes; what they print goes to <logs>/<name>.log. Leaving the context ends them all.

    Should this program be killed, the kernel kills them (on Linux). Use it from the main thread:
    the kernel takes the end of the thread that starts a process for the end of the program.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._asked = False  # whether they were asked to end

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Run `python -m MODULE --ros-args ARGUMENTS...`. It does not get the terminal's Ctrl-C:
        `stop` ends it.
        """
        command = [
            sys.executable,
            "-m",
            module,
            "--ros-args",
            "--disable-external-lib-logs",
            *arguments,
        ]
        with self._log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_death_with_parent(),
            )

    def require(self) -> None:
        """Raise ProcessEndedError unless all run."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                self._raise(name, code)

    def last_line(self, name: str) -> str:
        """The newest line that a process printed, without the time and the name of the logger."""
        return self._tail(name, 1).rpartition("]: ")[2].strip()

    def ask_to_end(self) -> None:
        """Ask all of them once, by SIGINT; `stop` waits for it."""
        if not self._asked:
            self._asked = True
            self._signal(signal.SIGINT)

    def stop(self) -> None:
        """End all of them: they are asked to, get SIGTERM, and SIGKILL if they do not listen. An
        exception, such as a second Ctrl-C, kills them at once.
        """
        try:
            self.ask_to_end()
            self._wait(_AFTER_SIGINT)
            self._signal(signal.SIGTERM)
            self._wait(_AFTER_SIGTERM)
        finally:
            self._asked = False
            for child in self._running():
                child.kill()
            for child in self._children.values():
                child.wait()
            self._children.clear()

    def _signal(self, number: signal.Signals) -> None:
        for child in self._running():
            child.send_signal(number)

    def _wait(self, patience: float) -> None:
        end = time.monotonic() + patience
        while self._running() and time.monotonic() < end:
            time.sleep(_POLL)

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [child for child in self._children.values() if child.poll() is None]

    def _raise(self, name: str, code: int) -> None:
        how = (
            f"was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with exit code {code}"
        )
        log = self._log(name)
        raise ProcessEndedError(
            f"{name} {how}, though it is needed; read {log}", self._tail(name, _TAIL)
        )

    def _tail(self, name: str, lines: int) -> str:
        text = self._log(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def _death_with_parent() -> Callable[[], None] | None:
    """What a child calls before it becomes another program, so that the kernel kills it when its
    parent ends.
    """
    parent = os.getpid()
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # no Linux
        return None

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return ask_kernel
