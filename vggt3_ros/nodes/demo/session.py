"""What the phases of `vggt3 demo` are made of: waiting, while nothing that is needed may have
ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rclpy.task import Future

from vggt3_ros.action import Reconstruct
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.nodes.demo.client import NAMESPACE, ClientThread, DemoClient
from vggt3_ros.nodes.demo.processes import Processes
from vggt3_ros.nodes.runtime.config_files import config_file
from vggt3_ros.nodes.runtime.parameters import Value
from vggt3_ros.progress import StageProgress

_POLL = 0.05  # seconds
_ANSWER = 30.0  # seconds that a service may take
_QUIET = 1.5  # seconds without news, after which no more are expected


class DemoError(Vggt3Error):
    """The demo cannot go on, or its result is not good."""


class Session:
    """The processes, the client that listens to them, and the user's wish to stop.

    `check_interrupt` raises KeyboardInterrupt when the user wants it.
    """

    def __init__(
        self, processes: Processes, thread: ClientThread, check_interrupt: Callable[[], None]
    ) -> None:
        self.processes = processes
        self._thread = thread
        self._check_interrupt = check_interrupt

    @property
    def client(self) -> DemoClient:
        """The node that listens to mapper, localizer and camera."""
        return self._thread.client

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs."""
        return self.processes.logs

    def start(self, name: str, parameters: Mapping[str, Value]) -> None:
        """Run a node with the file of config/ if it has one, and these parameters."""
        arguments = ["-r", f"__ns:=/{NAMESPACE}"]
        if name != "sim_camera":
            arguments += ["--params-file", str(config_file(f"{name}.yaml"))]
        for key, value in parameters.items():
            # quoted: a folder called 123 is no number
            arguments += ["-p", f"{key}:={json.dumps(value)}"]
        self.processes.start(name, f"vggt3_ros.nodes.{name}_node", arguments)

    def listen(self) -> None:
        """Join the ROS graph, once all processes were started."""
        self._thread.start()

    def view(self) -> str:
        """Open the page in the browser's reach; returns its address. Raises InputError without
        viser.
        """
        from vggt3_ros.nodes.viewer_node import ViewerNode

        return str(self._thread.add(ViewerNode).viewer.url)

    def reconstruct(self, save_path: Path, tell: StageProgress, timeout_s: float) -> Any:
        """Have the mapper make a scene, and save it; returns the action's result. Raises DemoError
        with its reason.
        """
        client = self.client

        def follow() -> None:
            if client.feedback is not None:
                tell(client.feedback.stage, client.feedback.progress)

        goal = self.answer(client.reconstruct(str(save_path)), "the mapper to begin")
        ending = goal.get_result_async()
        self.wait(ending.done, "the reconstruction", timeout_s, follow)
        result = ending.result().result
        # all zero if the mapper gave no answer
        if result.code != Reconstruct.Result.SUCCESS or not result.scene_id:
            raise DemoError(
                f"the mapper has made no scene: {result.message or f'read {self.logs}'}"
            )
        return result

    def require_alone(self, topic: str, own: int) -> None:
        """Raise DemoError if somebody but `own` publishers of ours sends on a topic."""
        others = self.client.count_publishers(topic) - own
        if others > 0:
            domain = os.environ.get("ROS_DOMAIN_ID", "0")
            raise DemoError(
                f"something else publishes /{NAMESPACE}/{topic} on ROS_DOMAIN_ID {domain}; stop it,"
                " or set another one"
            )

    def check(self) -> None:
        """Raise KeyboardInterrupt, ProcessEndedError, or what went wrong in the client."""
        self._check_interrupt()
        self.processes.require()
        self._thread.check()

    def wait(
        self,
        until: Callable[[], object],
        what: str,
        timeout_s: float,
        tell: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait until `until()` is true, `tell()` meanwhile. Raises DemoError naming `what` when it
        takes too long.
        """
        end = time.monotonic() + timeout_s
        while not until():
            self.check()
            if time.monotonic() > end:
                raise DemoError(f"waited {timeout_s:.0f} s in vain for {what}; read {self.logs}")
            tell()
            time.sleep(_POLL)

    def answer(self, future: Future, what: str) -> Any:
        """The result of a request."""
        self.wait(future.done, what, _ANSWER)
        return future.result()

    def settle(
        self,
        news: Callable[[], object],
        what: str,
        timeout_s: float,
        quiet_s: float = _QUIET,
        is_all: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until `news()` has been the same for a while, or `is_all()` that can come."""
        last = news()
        since = time.monotonic()

        def is_quiet() -> bool:
            nonlocal last, since
            now = news()
            if now != last:
                last = now
                since = time.monotonic()
            return is_all() or time.monotonic() - since > quiet_s

        self.wait(is_quiet, what, timeout_s)
