"""The camera of `vggt3 demo`: a simulated one, whose true poses are known, or a recorded one."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.camera.topic_names import is_rectified
from vggt3_ros.nodes.demo.bag_player import BagPlayer, bag_topics, read_bag
from vggt3_ros.nodes.demo.bag_topics import COMPRESSED, IMAGE, INFO, MOVING, ODOM, choose_topics
from vggt3_ros.nodes.demo.client import DemoClient
from vggt3_ros.nodes.demo.session import DemoError, Session
from vggt3_ros.nodes.runtime.parameters import Value, parameters_of
from vggt3_ros.nodes.sim_camera.drive import base_from_camera
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters
from vggt3_ros.progress import Progress, StageProgress
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.mapped_fraction import mapped_fractions
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.sequence import held_out_seed

# images per second: more than are localized; rendering has to stay ahead of them
_RATE = 6.0
# seconds until something has gone wrong
_RENDERING = 900.0
_CONNECTING = 10.0
_STANDSTILL = 60.0


class DemoCamera(Protocol):
    """Shows a place twice: leg 0 is for the map, leg 1 for the localizer.

    node_parameters: what mapper and localizer have to know about it. image_topic: where its images
    are. title: what people call it. images_sent: how many images it has shown. base_from_cam (4,
    4): the identity where nobody knows.
    """

    node_parameters: dict[str, Value]
    image_topic: str
    title: str
    images_sent: int
    base_from_cam: Tensor

    def start(self, session: Session) -> None:
        """Begin with what takes time."""

    def prepare(self, session: Session, tell: StageProgress) -> None:
        """Wait until it can be shown."""

    def drive(self, leg: int, session: Session, tell: Progress) -> None:
        """Show a leg, from its beginning to its end."""

    def delays_ms(self, client: DemoClient) -> dict[int, float]:
        """From the taking of an image to the arrival of its pose, by stamp."""

    def mapped_fractions(
        self, map_stamps: Sequence[int], client: DemoClient
    ) -> dict[int, float] | None:
        """How much of the view of each image of leg 1 was mapped, by stamp; None where nobody
        knows.
        """


class SimulatedCamera:
    """The node sim_camera in a process of its own. None for seed or length: the node's default.

    Raises InputError for what the node does not take.
    """

    image_topic = "image"

    def __init__(self, seed: int | None, length: float | None) -> None:
        asked = {
            key: value for key, value in (("seed", seed), ("length", length)) if value is not None
        }
        for parameter in parameters_of(SimCameraParameters):
            value = asked.get(parameter.name)
            low = parameter.low
            high = parameter.high
            if (
                value is not None
                and low is not None
                and high is not None
                and not low <= value <= high
            ):
                raise InputError(f"--{parameter.name} {value}: expected {parameter.allowed}")
        default = SimCameraParameters()
        self._settings = replace(
            default,
            rate=_RATE,
            seed=default.seed if seed is None else seed,
            length=default.length if length is None else length,
        )
        self._seed = held_out_seed(self._settings.seed)
        self.node_parameters: dict[str, Value] = {}
        self.title = f"simulated room {self._settings.seed}"
        self.images_sent = 0
        self.base_from_cam = base_from_camera()

    def start(self, session: Session) -> None:
        """Start the process, which begins to render."""
        session.start(
            "sim_camera", replace(self._settings, wait_to_start=True, publish_images=False).given()
        )

    def prepare(self, session: Session, tell: StageProgress) -> None:
        """Wait until rendering stays ahead of the first drive."""
        client = session.client
        log = session.processes

        def ready() -> bool:
            return client.camera_is_ready and client.leg == "leg 0 waiting"

        session.wait(
            ready,
            "the simulated camera",
            _RENDERING,
            lambda: tell(*_rendered(log.last_line("sim_camera"))),
        )
        session.require_alone(self.image_topic, own=1)

    def drive(self, leg: int, session: Session, tell: Progress) -> None:
        """Drive, with images; it stands before and afterwards."""
        client = session.client
        begin = session.client.path_m
        session.answer(client.show_images(True), "the simulated camera's images")
        started = session.answer(client.next_leg(), "the simulated camera's start")
        if not started.success:
            raise DemoError(f"the simulated camera does not start: {started.message}")
        length = self._settings.length
        timeout = _STANDSTILL + 10 * length / self._settings.speed
        session.wait(
            lambda: client.leg == f"leg {leg} done", "the end of the drive", timeout,
            lambda: tell((client.path_m - begin) / length),
        )  # fmt: skip
        session.answer(client.show_images(False), "the simulated camera to stop")
        self.images_sent = client.images_heard

    def delays_ms(self, client: DemoClient) -> dict[int, float]:
        """From the stamp of the image."""
        return {stamp: 1e-6 * (arrival - stamp) for stamp, arrival in client.pose_times.items()}

    def mapped_fractions(
        self, map_stamps: Sequence[int], client: DemoClient
    ) -> dict[int, float] | None:
        """By the room itself: what the keyframes saw of it."""
        true = dict(client.true_poses)
        mapped = [true[stamp] for stamp in map_stamps if stamp in true]
        queries = [stamp for stamp in sorted(client.attempts) if stamp in true]
        if not mapped or not queries:
            return {}
        asked = [true[stamp] for stamp in queries]
        from_map, from_queries = (
            torch.stack(poses) @ self.base_from_cam for poses in (mapped, asked)
        )
        lens = Lens.of(self._settings.width, self._settings.height, self._settings.field_of_view)
        return dict(
            zip(
                queries,
                mapped_fractions(make_room(self._seed), from_map, from_queries, lens),
                strict=True,
            )
        )


class RecordedCamera:
    """A bag, or two: the first for the map, the last for the localizer. Played `rate` times as fast
    as recorded.

    wanted: topics that the user has chosen; see choose_topics. Raises InputError as it does, and
    for bags that cannot be read.
    """

    def __init__(self, bags: Sequence[Path], rate: float, wanted: Mapping[str, str]) -> None:
        self._bags = bags
        self._rate = rate
        self._available = [bag_topics(bag) for bag in bags]
        self._topics = [choose_topics(available, wanted) for available in self._available]
        self.node_parameters = _node_parameters(bags, self._topics)
        self.image_topic = IMAGE if IMAGE in self._topics[0] else COMPRESSED
        if self.image_topic not in self._topics[-1]:
            raise DemoError(
                f"one bag has the topic {IMAGE}, the other {COMPRESSED}; record both with the same"
                " driver"
            )
        self.title = " and ".join(dict.fromkeys(bag.name for bag in bags))
        self.images_sent = 0
        self.base_from_cam = torch.eye(4, dtype=torch.float64)

    def start(self, session: Session) -> None:
        """Nothing: bags are read as they are played."""

    def prepare(self, session: Session, tell: StageProgress) -> None:
        """Nothing to wait for."""
        session.require_alone(self.image_topic, own=0)

    def drive(self, leg: int, session: Session, tell: Progress) -> None:
        """Play the bag of a leg, in its own time divided by `rate`. Raises DemoError when nobody
        listens.
        """
        client = session.client
        which = min(leg, len(self._bags) - 1)
        topics = self._topics[which]
        total = sum(
            topic.count
            for topic in self._available[which]
            if topic.name == topics[self.image_topic]
        )
        player = BagPlayer(client, self._bags[which], topics)
        stop = threading.Event()
        before = client.images_heard

        def play() -> int:
            if not player.wait_for_subscribers(_CONNECTING):
                raise DemoError(
                    f"neither mapper nor localizer listens to {self.image_topic}; read"
                    f" {session.logs}"
                )
            return player.play(self._rate, stop)

        try:
            with ThreadPoolExecutor(1) as pool:
                playing = pool.submit(play)
                try:
                    session.wait(
                        playing.done, "the end of the bag", math.inf,
                        lambda: tell((client.images_heard - before) / max(total, 1)),
                    )  # fmt: skip
                finally:
                    stop.set()
                self.images_sent += playing.result()
        finally:
            player.destroy()

    def delays_ms(self, client: DemoClient) -> dict[int, float]:
        """From when it was played: its stamp may be years old."""
        played = client.image_times
        return {
            stamp: 1e-6 * (arrival - played[stamp])
            for stamp, arrival in client.pose_times.items()
            if stamp in played
        }

    def mapped_fractions(
        self, map_stamps: Sequence[int], client: DemoClient
    ) -> dict[int, float] | None:
        """None: a bag does not say what of the place an image shows."""
        return None


def _rendered(line: str) -> tuple[str, float]:
    """What the simulated camera's log says about rendering."""
    found = re.search(r"rendered (\d+) of (\d+)", line)
    return (found[0], int(found[1]) / int(found[2])) if found else ("start", 0.0)


def _node_parameters(bags: Sequence[Path], chosen: Sequence[Mapping[str, str]]) -> dict[str, Value]:
    """What the nodes have to know about the recordings; they are taken for recordings of one
    robot.
    """
    topics = chosen[0]
    transport = IMAGE if IMAGE in topics else COMPRESSED
    parameters: dict[str, Value] = {
        "image_transport": "raw" if transport == IMAGE else "compressed",
        "base_frame": "",  # poses of the camera itself
        "rectified": is_rectified(topics[transport]) and _has_projection(bags[0], topics),
    }
    if not all(INFO in each for each in chosen):
        parameters["require_calibration"] = False
    if all(ODOM in each for each in chosen):
        message = next(read_bag(bags[0], {ODOM: topics[ODOM]}))
        parameters["odometry_source"] = "topic"
        parameters["odom_frame"] = deserialize_message(message.raw, Odometry).header.frame_id
    elif not all(MOVING in each for each in chosen):
        parameters["odometry_source"] = "none"
    return parameters


def _has_projection(bag: Path, topics: Mapping[str, str]) -> bool:
    """Whether the recorded calibration has P, which counts for rectified images."""
    if INFO not in topics:
        return False
    message = next(read_bag(bag, {INFO: topics[INFO]}))
    return bool(deserialize_message(message.raw, CameraInfo).p[0])
