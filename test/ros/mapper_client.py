"""A mapper in a process of its own, with everything that a client can ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from vggt3_ros.action import Reconstruct
from vggt3_ros.msg import MapperStatus
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.messages.qos import STATUS
from vggt3_ros.srv import LoadScene, SaveScene
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from ..patience import PATIENCE_S
from .lifecycle_client import LifecycleClient, graph
from .made_once import made_once
from .processes import NodeProcess, wait_for
from .robot import Robot

FRAMES = 8  # shown by `collect`, of the ten of the visit
# Every image that a test shows arrives, nothing happens by itself, and what happens is said at
# once.
SETTINGS = {
    "image_qos": "reliable", "queue_size": 100, "trigger_idle": 0.0, "min_frames": 4, "status_rate":
    20.0,
    "transform_timeout": 1.0,
}  # fmt: skip
QUICK = {"ttt_steps": 1, "landmarks": False}  # where the quality of a map does not matter


@made_once
def visit() -> RoomSequence:
    """Ten images of a drive through a room."""
    return room_sequence(900_004, 10, 0, 120, 160, length=2.5)


class Goal:
    """A reconstruction that was asked for."""

    def __init__(self, client: ActionClient, save_path: str, overwrite: bool) -> None:
        self.feedback: list[Reconstruct.Feedback] = []
        request = Reconstruct.Goal(save_path=save_path, overwrite=overwrite)
        sent = client.send_goal_async(
            request, lambda message: self.feedback.append(message.feedback)
        )
        wait_for(sent.done, "the answer to a goal")
        self._handle = sent.result()
        assert self._handle.accepted
        self._answer = self._handle.get_result_async()

    def result(self) -> Reconstruct.Result:
        wait_for(self._answer.done, "the result of a reconstruction")
        return self._answer.result().result

    def cancel(self) -> None:
        """Ask for it; whether it was cancelled is told by the result."""
        asked = self._handle.cancel_goal_async()
        wait_for(asked.done, "the answer to a cancellation")

    def wait_until_begun(self) -> None:
        """Until it says how far it is."""
        wait_for(lambda: self.feedback, "feedback")


class MapperClient(LifecycleClient):
    """Talks to a mapper; `start` brings it from any state to one where it is active with the given
    parameters.
    """

    def __init__(self, node: Node, process: NodeProcess, robot: Robot) -> None:
        super().__init__(node, process, "mapper", MapperParameters)
        self.robot = robot
        self.statuses: list[MapperStatus] = []
        self._action = ActionClient(node, Reconstruct, "mapper/reconstruct")
        node.create_subscription(
            MapperStatus, "mapper/status", lambda status: self.statuses.append(status), STATUS
        )

    def start(self, scene_dir: Path, watch: bool = True, **parameters: Any) -> None:
        """Forget everything, take these parameters (the others are SETTINGS and defaults), map.

        Returns when the mapper sees the robot's images, if it shall `watch`.
        """
        self.restart(**{**SETTINGS, "scene_dir": str(scene_dir), **parameters})
        self.statuses.clear()
        if watch:
            self.robot.wait_until_connected(
                0 if parameters.get("image_transport") == "compressed" else 1
            )

    # -- services and action
    # ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path, overwrite: bool = False) -> SaveScene.Response:
        return self._call(
            SaveScene, "save_scene", SaveScene.Request(path=str(path), overwrite=overwrite)
        )

    def ask_to_save(self, path: str | Path, overwrite: bool = False) -> Future:
        """The answer to come."""
        request = SaveScene.Request(path=str(path), overwrite=overwrite)
        return self._client(SaveScene, "save_scene").call_async(request)

    def ask_to_load(self, path: str | Path) -> Future:
        """The answer to come."""
        return self._client(LoadScene, "load_scene").call_async(LoadScene.Request(path=str(path)))

    def reconstruct(self, save_path: str = "", overwrite: bool = False) -> Goal:
        assert self._action.wait_for_server(PATIENCE_S)
        return Goal(self._action, save_path, overwrite)

    # -- what it says
    # ----------------------------------------------------------------------------------------------

    def says(self, what: Callable[[MapperStatus], bool], description: str) -> MapperStatus:
        """The newest status, once it is as wanted."""
        return wait_for(lambda: next((s for s in self.statuses[-1:] if what(s)), None), description)

    def keeps(self, frames: int) -> MapperStatus:
        """The status once the collection has so many frames."""
        return self.says(
            lambda status: status.frames_kept == frames, f"{frames} frames in the collection"
        )

    def has_seen(self, images: int) -> MapperStatus:
        """The status once so many images came and each was kept or left out, while nothing is
        reconstructed.
        """

        def done(status: MapperStatus) -> bool:
            left_out = status.frames_skipped + status.frames_dropped
            return status.frames_received == images == status.frames_kept + left_out

        return self.says(done, f"{images} images received and dealt with")

    def makes_another_map_than(self, scene_id: str) -> MapperStatus:
        """The status once there is a new scene, and everything is done that belongs to its
        making.
        """

        def done(status: MapperStatus) -> bool:
            return status.scene_id not in ("", scene_id) and status.state == MapperStatus.COLLECTING

        return self.says(done, "a new map")

    def collect(self, frames: int = FRAMES, **options: Any) -> MapperStatus:
        """Show the first images of the visit, and wait until they are collected."""
        self.robot.drive(range(frames), rate=30, **options)
        return self.keeps(frames)


@contextmanager
def running_mapper(
    log: Path, namespace: str = "/vggt3", anew: bool = False, **parameters: Any
) -> Iterator[MapperClient]:
    """A mapper (not configured yet, unless `autostart` is among the parameters), and a robot before
    its camera. anew: see NodeProcess.
    """
    process = NodeProcess(log, "mapper_node", namespace=namespace, parameters=parameters, anew=anew)
    try:
        with graph(namespace) as node:
            yield MapperClient(node, process, Robot(node, visit()))
    finally:
        process.kill()
        print(f"---- {process.module} ----\n{process.log}")
