"""What `vggt3 bench graph` measures with: a camera of a given size and rate, the nodes' counts,
their processes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import psutil
from diagnostic_msgs.msg import DiagnosticArray

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.demo.bench_figures import NodeCounts, Sample, Usage
from vggt3_ros.nodes.demo.cameras import SimulatedCamera
from vggt3_ros.nodes.demo.client import NAMESPACE, DemoClient
from vggt3_ros.nodes.demo.session import DemoError, Session
from vggt3_ros.nodes.runtime.parameters import parameters_of
from vggt3_ros.nodes.sim_camera.drive import plan
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters

# metres of the drives: rendering is slow, and a path to and fro does as well as a long one
LENGTH = 2.0
NODES = ("mapper", "localizer")
_LEFT_OUT = ("skipped", "dropped")
# what a core does when it neither waits nor rests
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
_FULL_QUEUE = 100  # diagnostics that may wait


class BenchCamera(SimulatedCamera):
    """The simulated camera with another size and rate; it renders little, and goes to and fro on
    its last leg.

    rendered: how many images it renders in all; metres: the length of its legs. Raises InputError
    for a size or rate that the node does not take.
    """

    def __init__(self, width: int, height: int, rate: float, seed: int | None) -> None:
        super().__init__(seed, LENGTH)
        asked = {"width": width, "height": height, "rate": rate}
        for parameter in parameters_of(SimCameraParameters):
            value = asked.get(parameter.name)
            if value is not None and parameter.low is not None and parameter.high is not None:
                if not parameter.low <= value <= parameter.high:
                    raise InputError(f"{parameter.name} is {value}; expected {parameter.allowed}")
        self._settings = replace(
            self._settings, width=width, height=height, rate=rate, supersample=1, loop=True
        )
        legs = plan(self._settings)[1]
        self.rendered = sum(len(leg) for leg in legs)
        self.metres = [float((leg[1:, :3, 3] - leg[:-1, :3, 3]).norm(dim=-1).sum()) for leg in legs]
        self.title = f"{self.title}, {width}x{height} at {rate:g} Hz"

    def begin_loop(self, session: Session) -> None:
        """Start on the leg that was not mapped; images are another matter."""
        started = session.answer(session.client.next_leg(), "the simulated camera's start")
        if not started.success:
            raise DemoError(f"the simulated camera does not start: {started.message}")

    def show(self, on: bool, session: Session) -> None:
        """Send images, or stop it."""
        session.answer(session.client.show_images(on), "the simulated camera")


class CountsOfNodes:
    """Hears what mapper and localizer say on /diagnostics about the images that came.

    counts: the newest, by the node's name; for any thread.
    """

    def __init__(self, client: DemoClient) -> None:
        self.counts: dict[str, NodeCounts] = {}
        client.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, _FULL_QUEUE
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.rpartition("/")[2]
            if name in NODES and status.name == f"/{NAMESPACE}/{name}":
                values = {pair.key: pair.value for pair in status.values}
                reasons = {}
                for key, value in values.items():
                    kind, _, reason = key.partition(": ")
                    if kind in _LEFT_OUT and reason:
                        reasons[reason] = int(value)
                left_out = sum(int(values[kind]) for kind in _LEFT_OUT)
                self.counts = {
                    **self.counts,
                    name: NodeCounts(int(values["received"]), left_out, reasons),
                }


class Meter:
    """Weighs and times this process, called "bench", and the nodes that it has started."""

    def __init__(self) -> None:
        here = psutil.Process()
        self._processes: dict[str, psutil.Process] = {"bench": here}
        for child in here.children():
            modules = [part for part in child.cmdline() if part.startswith("vggt3_ros.nodes.")]
            if modules:
                self._processes[
                    modules[0].removeprefix("vggt3_ros.nodes.").removesuffix("_node")
                ] = child

    def sample(self) -> Sample:
        """What they have used until now. Raises DemoError when one has ended."""
        try:
            times = psutil.cpu_times()
            return Sample(
                time.monotonic(), self._usage(), sum(getattr(times, kind, 0.0) for kind in _BUSY)
            )
        except psutil.NoSuchProcess as error:
            raise DemoError(f"process {error.pid} has ended, though it is needed") from error

    def _usage(self) -> Mapping[str, Usage]:
        usage = {}
        for name, process in self._processes.items():
            with process.oneshot():
                times = process.cpu_times()
                usage[name] = Usage(times.user + times.system, process.memory_info().rss)
        return usage
