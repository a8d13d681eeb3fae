"""The process that measures: it can be ended at any moment, and a broken device or lack of memory
ends it alone.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from vggt3_ros.cli.bench.gpu.results import Row

_STARTING_S = 120.0  # that torch and the device may take to be there
# that a killed process may take to be gone: one that is stuck in a driver is not waited for
_ENDING_S = 5.0


class Worker:
    """A process that does one step after another. It is started when first needed, and again after
    it was ended.
    """

    def __init__(self, device: str, dry: bool) -> None:
        self._arguments = (device, dry)
        self._process: Any = None
        self._connection: Connection | None = None

    def start(self, seconds: float = _STARTING_S) -> None:
        """Wait so long until the process is ready. Raises RuntimeError saying why it is not."""
        if self._connection is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments))
        self._process.start()
        theirs.close()
        kind, content = self._receive(time.monotonic() + min(seconds, _STARTING_S))
        if kind != "ready":
            self.end()
            raise RuntimeError(f"the measuring process did not start: {content or kind}")

    def do(
        self, step: str, seconds: float, ceilings: dict[str, float], on_row: Callable[[Row], None]
    ) -> tuple[str, str | None]:
        """Do a step within so many seconds; returns how it ended, 'done', 'out of time' or
        'failed', and the error.
        """
        self.start()
        assert self._connection is not None
        deadline = time.monotonic() + seconds
        try:
            self._connection.send((step, seconds, ceilings))
        except OSError as error:
            self.end()
            return "failed", f"the measuring process ended between two steps ({error})"
        while True:
            kind, content = self._receive(deadline)
            if kind == "row":
                on_row(content)
                continue
            # whatever is left in the process or on its device is not to be built on
            if kind != "done":
                self.end()
            return kind, content

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join(_ENDING_S)
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _receive(self, deadline: float) -> tuple[str, Any]:
        assert self._connection is not None
        try:
            if self._connection.poll(max(0.0, deadline - time.monotonic())):
                kind, content = self._connection.recv()
                return kind, content
            return "out of time", None
        except (EOFError, ConnectionResetError):
            self._process.join(_ENDING_S)
            reason = (
                "killed, most likely for lack of memory"
                if self._process.exitcode == -9
                else "ended by a fault"
            )
            return (
                "failed",
                f"the measuring process was {reason} (exit code {self._process.exitcode})",
            )


def _serve(connection: Connection, device: str, dry: bool) -> None:
    """The process's own side."""
    # Ctrl-C goes to all processes of a terminal; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from vggt3_ros.cli.bench.gpu.bench import Bench
    from vggt3_ros.cli.bench.gpu.sizes import Sizes

    there = torch.device(device)
    if there.type == "cuda" and there.index is not None:
        torch.cuda.set_device(there)  # which events go by
    torch.zeros(1, device=there)
    sizes = Sizes.dry() if dry else Sizes.full()
    connection.send(("ready", None))
    while True:
        step, seconds, ceilings = connection.recv()
        deadline = time.monotonic() + seconds
        bench = Bench(there, sizes, deadline, lambda row: connection.send(("row", row)), ceilings)
        try:
            module = importlib.import_module(f"vggt3_ros.cli.bench.gpu.{step}")
            gc.freeze()  # the modules stay; looking through them takes 0.1 s at every `Bench.free`
            module.run(bench)
        except Exception:
            connection.send(("failed", traceback.format_exc()))
        else:
            bench.free()
            connection.send(("done", None))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
