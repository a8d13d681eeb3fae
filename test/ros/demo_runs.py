"""`vggt3 demo` as a user runs it, and what its camera sends as a recording."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import rclpy
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vggt3_ros.nodes.messages.qos import LATCHED, TF, TF_STATIC_IN

from .processes import REPOSITORY, wait_for


class RunningDemo:
    """`vggt3 demo --out OUT ARGUMENTS...` in a process of its own; what it prints goes to files
    beside OUT.
    """

    def __init__(self, out: Path, *arguments: object) -> None:
        self.out = out
        self._texts = [out.with_name(out.name + suffix) for suffix in (".out", ".err")]
        command = [sys.executable, "-m", "vggt3_ros", "demo", "--out", out, *map(str, arguments)]
        with self._texts[0].open("wb") as stdout, self._texts[1].open("wb") as stderr:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=stdout, stderr=stderr)

    @property
    def stdout(self) -> str:
        return self._texts[0].read_text()

    @property
    def stderr(self) -> str:
        return self._texts[1].read_text()

    def wait(self, timeout_s: float = 300.0) -> int:
        """Its exit code; it is killed if it takes too long."""
        try:
            return self.process.wait(timeout_s)
        finally:
            self.kill()

    def wait_for_line(self, beginning: str) -> None:
        """Until it has printed a line that begins like this."""

        def printed() -> bool:
            assert self.process.poll() is None, f"the demo has ended:\n{self.stdout}{self.stderr}"
            return any(line.startswith(beginning) for line in self.stdout.splitlines())

        wait_for(printed, f"the demo to print {beginning!r}")

    def children(self) -> dict[str, psutil.Process]:
        """Its processes by the names of their modules."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            command = child.cmdline()
            if "-m" in command:  # not yet while it is being started
                found[command[command.index("-m") + 1].rpartition(".")[2]] = child
        return found

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """If it still runs."""
        self.process.kill()
        self.process.wait()


class Recorder:
    """Records each leg of a simulated camera as a bag: `bags`[0] as mcap, [1] as sqlite3; there
    after the context.
    """

    def __init__(self, folder: Path) -> None:
        self.bags = (folder / "there", folder / "back")
        self._heard: list[tuple[int, str, str, bytes, int]] = []  # leg, topic, type, content, time
        self._leg = -1
        self._context = Context()

    def __enter__(self) -> Recorder:
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("recorder", namespace="/vggt3", context=self._context)
        self._node.create_subscription(String, "sim_camera/leg", self._on_leg, LATCHED)
        for kind, topic, qos in (
            (Image, "image", 100),
            (CameraInfo, "camera_info", 100),
            (Odometry, "odom", 100),
            (TFMessage, "/tf", TF),
            (TFMessage, "/tf_static", TF_STATIC_IN),
        ):
            self._node.create_subscription(kind, topic, self._hear(kind, topic), qos, raw=True)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        for leg, plugin in enumerate((StoragePlugin.MCAP, StoragePlugin.SQLITE3)):
            self._write(leg, plugin)

    def _on_leg(self, message: String) -> None:
        words = message.data.split()
        self._leg = int(words[1]) if words[-1] == "running" else -1

    def _hear(self, kind: Any, topic: str) -> Callable[[bytes], None]:
        type_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        return lambda raw: self._heard.append((self._leg, topic, type_name, raw, time.time_ns()))

    def _write(self, leg: int, plugin: StoragePlugin) -> None:
        store, connections = get_typestore(Stores.ROS2_HUMBLE), {}
        with Writer(self.bags[leg], version=8, storage_plugin=plugin) as writer:
            for when, topic, type_name, raw, time_ns in self._heard:
                if when != leg and topic != "/tf_static":
                    continue
                if topic not in connections:
                    name = topic if topic.startswith("/") else f"/robot/camera/{topic}"
                    connections[topic] = writer.add_connection(name, type_name, typestore=store)
                writer.write(connections[topic], time_ns, raw)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
