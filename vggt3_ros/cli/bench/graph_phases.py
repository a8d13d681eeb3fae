"""The phases of `vggt3 bench graph`, and the figures of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.demo.phases import Demo
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.evaluation.blocks import figure

if TYPE_CHECKING:
    from vggt3_ros.nodes.demo.bench_figures import (
        MessageFigures,
        ProcessFigures,
        Sample,
        Snapshot,
        Spread,
    )
    from vggt3_ros.nodes.demo.bench_rig import BenchCamera
    from vggt3_ros.nodes.demo.session import Session

# seconds until something has gone wrong
_SETTLE = 120.0
_SLACK = 60.0
_WARM_UP = 15.0  # seconds at most until the first pose, which takes memory once
_SAMPLES = 60  # of processor and memory while it is measured


@dataclass(frozen=True)
class MappingPhase:
    """While the camera drives to map: images by node."""

    messages: dict[str, MessageFigures]


@dataclass(frozen=True)
class ReconstructionPhase:
    """A reconstruction while the camera drives on. seconds: of the mapper; seconds_until_in_use: as
    a user waits until the localizer has taken the scene over.
    """

    keyframes: int = field(metadata=figure("count"))
    landmarks: int = field(metadata=figure("count"))
    seconds: float = field(metadata=figure("s"))
    seconds_until_in_use: float = field(metadata=figure("s"))
    messages: dict[str, MessageFigures]


@dataclass(frozen=True)
class LocalizationPhase:
    """While the camera goes to and fro. image_to_pose_ms: from the stamp of an image to the arrival
    of its pose; attempt_ms: what the localizer needs for an image.
    """

    seconds: float = field(metadata=figure("s"))
    images_per_s: float = field(metadata=figure("1/s"))
    attempts_per_s: float = field(metadata=figure("1/s"))
    poses_per_s: float = field(metadata=figure("1/s"))
    image_to_pose_ms: Spread = field(metadata=figure("ms"))
    attempt_ms: Spread = field(metadata=figure("ms"))
    messages: dict[str, MessageFigures]


@dataclass(frozen=True)
class GraphFigures:
    """By phase; of the last one, also the processes by name, and how many cores were busy for other
    programs.
    """

    mapping: MappingPhase
    reconstruction: ReconstructionPhase
    localization: LocalizationPhase
    processes: dict[str, ProcessFigures]
    other_programs_cores: float


class GraphBench:
    """One run; `session` has nothing started yet."""

    def __init__(self, session: Session, camera: BenchCamera) -> None:
        self._session = session
        self._camera = camera
        self._demo = Demo(session, camera)

    def run(self, model: str, device: str, work: Path, seconds: float) -> GraphFigures:
        """All figures, by phase. Raises DemoError or ProcessEndedError."""
        from vggt3_ros.nodes.demo.bench_figures import messages, other_programs, processes
        from vggt3_ros.nodes.demo.bench_rig import CountsOfNodes, Meter

        self._demo.start(model, device, work / "scenes")
        self._heard = CountsOfNodes(self._session.client)
        self._meter = Meter()
        begin = self._snapshot()
        self._demo.drive_to_map()
        mapped = self._snapshot()
        reconstruction = self._reconstruct(work / "scene", mapped)
        localization, samples = self._localize(seconds)
        return GraphFigures(
            mapping=MappingPhase(messages(begin, mapped)),
            reconstruction=reconstruction,
            localization=localization,
            processes=processes(samples),
            other_programs_cores=other_programs(samples),
        )

    def _reconstruct(self, folder: Path, before: Snapshot) -> ReconstructionPhase:
        """Reconstruct while the camera drives on."""
        from vggt3_ros.nodes.demo.bench_figures import messages
        from vggt3_ros.scene.storage import load_scene

        self._camera.show(True, self._session)
        self._camera.begin_loop(self._session)
        begin = time.monotonic()
        seconds = self._demo.reconstruct(folder)
        in_use = time.monotonic() - begin
        self._camera.show(False, self._session)
        scene = load_scene(folder, with_depth=False)
        return ReconstructionPhase(
            keyframes=len(scene.keyframes),
            landmarks=len(scene.landmarks["positions"]) if scene.landmarks else 0,
            seconds=seconds,
            seconds_until_in_use=in_use,
            messages=messages(before, self._snapshot()),
        )

    def _localize(self, seconds: float) -> tuple[LocalizationPhase, list[Sample]]:
        """Localize while the camera goes to and fro."""
        from vggt3_ros.nodes.demo.bench_figures import messages, spread

        session = self._session
        camera = self._camera
        client = self._session.client
        with ProgressBar("localize") as tell:
            client.forget_attempts()
            camera.show(True, session)
            self._wait(_WARM_UP, unless=lambda: client.poses)
            camera.show(False, session)
            before = self._snapshot()
            client.forget_attempts()
            camera.show(True, session)
            begin = time.monotonic()
            samples = [self._meter.sample()]

            def look() -> None:
                if time.monotonic() - samples[-1].time_s >= seconds / _SAMPLES:
                    samples.append(self._meter.sample())
                    tell(f"{len(client.poses)} poses", (time.monotonic() - begin) / seconds)

            self._wait(seconds, look)
            samples.append(self._meter.sample())
            camera.show(False, session)
            took = time.monotonic() - begin
            after = self._snapshot()
        delays = camera.delays_ms(client)
        attempts = client.attempts.values()
        figures = LocalizationPhase(
            seconds=took,
            images_per_s=(after.sent - before.sent) / took,
            attempts_per_s=len(attempts) / took,
            poses_per_s=len(client.poses) / took,
            image_to_pose_ms=spread(delays.values()),
            attempt_ms=spread(1e3 * attempt.processing_time for attempt in attempts),
            messages=messages(before, after),
        )
        return figures, samples

    def _wait(
        self,
        seconds: float,
        tell: Callable[[], None] = lambda: None,
        unless: Callable[[], object] = lambda: False,
    ) -> None:
        end = time.monotonic() + seconds
        self._session.wait(
            lambda: unless() or time.monotonic() >= end, "time to pass", seconds + _SLACK, tell
        )

    def _snapshot(self) -> Snapshot:
        """What was counted, once all images have arrived and the nodes have said so; no images may
        be sent now.
        """
        from vggt3_ros.nodes.demo.bench_figures import Snapshot

        heard = self._heard
        client = self._session.client
        self._session.wait(
            lambda: len(heard.counts) == 2, "diagnostics of mapper and localizer", _SETTLE
        )
        self._session.settle(
            lambda: (client.images_heard, heard.counts), "the nodes to be done with images", _SETTLE
        )
        return Snapshot(client.images_heard, heard.counts)
