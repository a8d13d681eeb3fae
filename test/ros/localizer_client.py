"""A localizer in a process of its own, and a scene that its robot's camera has not seen before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Empty, Trigger
from torch import Tensor

from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.msg import LocalizationStatus as Status
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformError, TransformListener
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import save_scene
from vggt3_ros.srv import LoadScene
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from .lifecycle_client import LifecycleClient, graph
from .made_once import made_once
from .processes import NodeProcess, wait_for
from .robot import Heard, Robot

MAPPED, QUERIES = range(16), range(16, 24)
LIMIT_M, LIMIT_DEG = 0.05, 2.0
LOST_AFTER_S = 2.0  # more than an attempt takes on a busy machine


@made_once
def visit() -> RoomSequence:
    """Sixteen images of a drive through a room, and eight from beside it."""
    return room_sequence(900_004, 16, 8)


def frames(metric: bool) -> list[Frame]:
    """The mapped images of the visit, with their true poses or without any prior."""
    drive = visit()
    return [
        Frame(
            drive.images[i],
            1 + i,
            drive.intrinsics,
            None,
            drive.world_from_cam[i] if metric else None,
            name=f"{i}",
        )
        for i in MAPPED
    ]


@made_once
def scene() -> Scene:
    """A scene of the visit's mapped images, which it keeps, in the true frame."""
    settings = ReconstructionSettings(keep_images=True)
    made = reconstruct(frames(metric=True), load_network("tiny"), settings).scene
    assert made.is_verified and made.is_metric
    return made


@made_once
def scene_without_scale() -> Scene:
    """The same without any prior; its depth is not refined, for nobody asks for it."""
    settings = ReconstructionSettings(dense=None)
    made = reconstruct(frames(metric=False), load_network("tiny"), settings).scene
    assert made.is_verified and not made.is_metric
    return made


class LocalizerClient(LifecycleClient):
    """Talks to a localizer; `start` brings it from any state to one where it is active with the
    given parameters.
    """

    def __init__(self, node: Node, process: NodeProcess, folder: Path) -> None:
        super().__init__(node, process, "localizer", LocalizerParameters)
        self._clients |= {
            name: node.create_client(kind, f"localizer/{name}")
            for name, kind in (("relocalize", Empty), ("relocalize_and_wait", Trigger))
        }
        self.heard = Heard(node)
        self.folder = folder

    def start(self, **parameters: Any) -> None:
        """Be active, without a scene, with these parameters; the others are defaults."""
        self.restart(**{"lost_after": LOST_AFTER_S, "transform_timeout": 1.0, **parameters})

    @contextmanager
    def meet(self, made: Scene | None = None) -> Iterator[Robot]:
        """A robot whose camera the localizer sees, after it has loaded a scene (that of the
        visit).
        """
        is_new = self.state() != "active"
        if is_new:
            self.start()
        made = made or scene()
        robot = Robot(self.node, visit())
        try:
            robot.wait_until_connected()
            if is_new:
                robot.calibrate()
            folder = self.folder / made.scene_id
            answer = self.load(folder if folder.exists() else save_scene(made, folder))
            assert answer.code == LoadScene.Response.SUCCESS, answer.message
            yield robot
        finally:
            robot.destroy()

    def relocalize(self) -> None:
        """Let it forget where the robot is."""
        self._call(Empty, "relocalize", Empty.Request())

    def relocalize_and_wait(self) -> Future:
        """The same; the future holds the answer of what comes of it."""
        client = self._client(Trigger, "relocalize_and_wait")
        return client.call_async(Trigger.Request())

    def attempts(self, robot: Robot, indices: Sequence[int], **options: Any) -> list[Status]:
        """Show images, each after the attempt at the one before; returns what was said of them."""
        return [self.heard.status_of(robot.show(index, **options)) for index in indices]

    def pose_of(self, status: Status) -> Any:
        """The pose that a status announces."""
        stamp = stamp_ns(status.header.stamp)
        return wait_for(lambda: self.heard.poses.get(stamp), "a pose that was announced")

    def assert_right(self, robot: Robot, statuses: list[Status], indices: Sequence[int]) -> None:
        """Every pose that was published of these images is right."""
        for status, index in zip(statuses, indices, strict=True):
            if status.pose_published:
                self.pose_of(status)
                metres, degrees = self.heard.error(
                    stamp_ns(status.header.stamp), robot.true_pose(index)
                )
                assert metres < LIMIT_M and degrees < LIMIT_DEG, (
                    f"image {index}: {metres:.3f} m, {degrees:.2f} deg"
                )


@contextmanager
def running_localizer(
    folder: Path, namespace: str = "/vggt3", anew: bool = False, **parameters: Any
) -> Iterator[LocalizerClient]:
    """A localizer, not configured yet; `folder` is where its scenes and its log are. anew:
    see NodeProcess.
    """
    process = NodeProcess(
        folder / "localizer.log",
        "localizer_node",
        namespace=namespace,
        parameters=parameters,
        anew=anew,
    )
    try:
        with graph(namespace) as node:
            yield LocalizerClient(node, process, folder)
    finally:
        process.kill()
        print(f"---- {process.module} ----\n{process.log}")


@contextmanager
def transforms(localizer: LocalizerClient) -> Iterator[TransformBuffer]:
    """What /tf says from now on."""
    buffer = TransformBuffer(max_gap_s=60.0)  # attempts may be slow
    listener = TransformListener(localizer.node, buffer)
    wait_for(lambda: localizer.node.count_publishers("/tf") >= 2, "the localizer's transforms")
    yield buffer
    listener.destroy()


def known(buffer: TransformBuffer, parent: str, child: str, stamp: int) -> Tensor | None:
    """The transform parent_from_child (4, 4) of a stamp, if it is known by now."""
    try:
        return buffer.lookup(parent, child, stamp)
    except TransformError:
        return None
