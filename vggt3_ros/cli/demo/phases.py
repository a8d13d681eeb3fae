"""The phases of `vggt3 demo`: start, drive to map, reconstruct, drive to localize; and what was
seen meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.evaluation.blocks import figure

if TYPE_CHECKING:
    from vggt3_ros.evaluation.live_run import LiveRun
    from vggt3_ros.nodes.demo.cameras import DemoCamera
    from vggt3_ros.nodes.demo.session import Session
    from vggt3_ros.scene.scene import Scene

# seconds until something has gone wrong
_START = 180.0
_SETTLE = 120.0
_RECONSTRUCTION = 7200.0
_NEW_SCENE = 120.0


@dataclass(frozen=True)
class NodeMessages:
    """Images that the camera sent and a node did not get (lost), and those that it got and left out
    on purpose.
    """

    sent: int = field(metadata=figure("count"))
    received: int = field(metadata=figure("count"))
    lost: int = field(metadata=figure("count"))
    left_out: int = field(metadata=figure("count"))
    last_reason: str


@dataclass(frozen=True)
class Messages:
    """By node, and how many were lost in all."""

    nodes: dict[str, NodeMessages] = field(metadata=figure(inline=True))
    lost: int = field(metadata=figure("count"))


@dataclass(frozen=True, eq=False)
class DemoOutcome:
    """What the demo has seen. map_seconds: of the reconstruction alone."""

    scene: Scene
    map_seconds: float
    run: LiveRun
    messages: Messages


@dataclass
class Demo:
    """One demo; call the phases in their order. seconds: how long each one took."""

    session: Session
    camera: DemoCamera
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, model: str, device: str | None, scene_dir: Path) -> None:
        """Start the processes, and wait until they can work."""
        session = self.session
        camera = self.camera
        with self._phase("start") as tell:
            camera.start(session)
            common = {
                "autostart": True,
                "model": model,
                "device": device or "auto",
                **camera.node_parameters,
            }
            # The demo says when to reconstruct, and the mapper is not to begin another map on the
            # second drive.
            session.start("mapper", {**common, "scene_dir": str(scene_dir), "trigger_idle": 0.0})
            session.start("localizer", common)
            session.listen()
            client = session.client
            session.wait(lambda: client.nodes_are_active, "mapper and localizer", _START)
            camera.prepare(session, tell)
            session.wait(
                lambda: client.listeners(camera.image_topic) >= 2,
                "the nodes to find the camera",
                _START,
            )

    def drive_to_map(self) -> int:
        """Show the place to the mapper; returns how many keyframes it has kept."""
        session = self.session
        client = self.session.client

        def kept() -> int:
            return client.mapper.frames_kept if client.mapper else 0

        def received() -> int:
            return client.mapper.frames_received if client.mapper else 0

        with self._phase("drive to map") as tell:
            self.camera.drive(0, session, lambda fraction: tell(f"{kept()} keyframes", fraction))
            session.settle(
                received,
                "the mapper's images",
                _SETTLE,
                is_all=lambda: received() >= self.camera.images_sent,
            )
        return kept()

    def reconstruct(self, save_path: Path) -> float:
        """Have the scene made, saved and taken over by the localizer; returns the seconds that the
        mapper took.

        Raises DemoError with the mapper's reason when there is none.
        """
        session = self.session
        client = self.session.client
        with self._phase("reconstruct") as tell:
            result = session.reconstruct(save_path, tell, _RECONSTRUCTION)
            published = "the map to be published"
            session.wait(
                lambda: client.scene_id == result.scene_id and client.points > 0,
                published,
                _NEW_SCENE,
            )
            session.wait(
                lambda: client.localizer and client.localizer.scene_id == result.scene_id,
                "the localizer to take the map over", _NEW_SCENE,
            )  # fmt: skip
        return float(result.seconds)

    def drive_to_localize(self) -> None:
        """Show the place to the localizer."""
        session = self.session
        client = self.session.client

        def tell_state(fraction: float) -> None:
            tell(
                f"{client.localizer_state}, {len(client.poses)} of {len(client.attempts)} images"
                " localized",
                fraction,
            )

        def unanswered() -> int:
            status = client.localizer
            if status is None:
                return 0
            left_out = status.frames_skipped + status.frames_dropped
            return self.camera.images_sent - left_out - len(client.attempts)

        with self._phase("drive to localize") as tell:
            client.forget_attempts()
            before = unanswered()
            self.camera.drive(1, session, tell_state)
            slowest = max(
                (attempt.processing_time for attempt in tuple(client.attempts.values())),
                default=0.0,
            )
            session.settle(
                lambda: (
                    client.localizer and client.localizer.frames_received,
                    len(client.attempts),
                ),
                "the localizer's last image",
                _SETTLE,
                max(1.5, 2 * slowest),
                is_all=lambda: self._messages().lost == 0 and unanswered() <= before,
            )

    def outcome(self, scene: Scene, map_seconds: float) -> DemoOutcome:
        """What there is to report of a drive in this scene; the nodes, which are no longer needed,
        end meanwhile.
        """
        from vggt3_ros.evaluation.live_run import LiveRun
        from vggt3_ros.geometry.se3 import se3_inverse

        client = self.session.client
        messages = self._messages()
        self.session.processes.ask_to_end()
        run = LiveRun(
            refusals={
                stamp: each.reason
                for stamp, each in client.attempts.items()
                if stamp not in client.poses
            },
            poses=client.poses,
            delays_ms=self.camera.delays_ms(client),
            map_poses=scene.map_from_keyframes,
            true_poses=dict(client.true_poses),
            mapped_fractions=self.camera.mapped_fractions(scene.keyframes.stamps_ns, client),
            is_metric=scene.is_metric,
            cam_from_base=se3_inverse(self.camera.base_from_cam),
        )
        return DemoOutcome(scene, map_seconds, run, messages)

    def _messages(self) -> Messages:
        client = self.session.client
        sent = self.camera.images_sent
        nodes = {}
        for name, status in (("mapper", client.mapper), ("localizer", client.localizer)):
            if status is not None:
                nodes[name] = NodeMessages(
                    sent=sent,
                    received=status.frames_received,
                    lost=sent - status.frames_received,
                    left_out=status.frames_skipped + status.frames_dropped,
                    last_reason=status.last_drop_reason,
                )
        return Messages(nodes, sum(node.lost for node in nodes.values()))

    @contextmanager
    def _phase(self, name: str) -> Iterator[ProgressBar]:
        begin = time.perf_counter()
        with ProgressBar(name) as progress:
            yield progress
        self.seconds[name.replace(" ", "_")] = time.perf_counter() - begin
