"""Plays a rosbag2 recording (mcap or sqlite3) to the nodes of this package, under the names that
they listen to.

Messages pass as they are, stamps included: the nodes go by the stamps of the images, so recordings
of any date work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.demo.bag_topics import (
    COMPRESSED,
    DEPTH,
    FIXED,
    IMAGE,
    INFO,
    MOVING,
    ODOM,
    BagTopic,
    choose_topics,
    type_name,
)
from vggt3_ros.nodes.messages.conversions import pose_from_transform, stamp_ns
from vggt3_ros.nodes.messages.qos import STATUS, TF, image_qos
from vggt3_ros.nodes.messages.transforms import StaticTransformBroadcaster

_CLASSES: dict[str, Any] = {
    IMAGE: Image,
    COMPRESSED: CompressedImage,
    INFO: CameraInfo,
    DEPTH: Image,
    ODOM: Odometry,
    MOVING: TFMessage,
    FIXED: TFMessage,
}
_PICTURES = (IMAGE, COMPRESSED, DEPTH)
# how long subscribers may take for an image when it goes as fast as it can
_ACKNOWLEDGED = Duration(seconds=1)
_BREATH = 0.005  # seconds after each image, for subscribers that acknowledge nothing
_POLL = 0.05  # seconds
_SETTLED = 0.5  # seconds without a new subscriber until all are there


@dataclass(frozen=True)
class BagMessage:
    """A message: our name of its topic, its type, its serialized content, and when it was recorded
    (ns).
    """

    name: str
    type: str
    raw: bytes
    time_ns: int


def bag_topics(path: str | os.PathLike[str]) -> list[BagTopic]:
    """The topics of a bag, by name. Raises InputError when it cannot be read, or when rosbags is
    not installed.
    """
    with _opened(path) as reader:
        topics: dict[tuple[str, str], int] = {}
        for each in reader.connections:
            key = (each.topic, type_name(each.msgtype))
            topics[key] = topics.get(key, 0) + each.msgcount
        return [BagTopic(name, kind, count) for (name, kind), count in sorted(topics.items())]


def read_bag(path: str | os.PathLike[str], topics: Mapping[str, str]) -> Iterator[BagMessage]:
    """The messages of `topics` (our name -> the bag's) in the order in which they were recorded.

    Raises InputError when the bag cannot be read, to its end.
    """
    names = {topic: name for name, topic in topics.items()}
    with _opened(path) as reader:
        connections = [each for each in reader.connections if each.topic in names]
        if connections:
            for connection, time_ns, raw in reader.messages(connections):
                yield BagMessage(
                    names[connection.topic], type_name(connection.msgtype), bytes(raw), time_ns
                )


class BagPlayer:
    """Publishes the messages of a bag with a node's publishers, in their order."""

    def __init__(
        self, node: Node, path: str | os.PathLike[str], topics: Mapping[str, str] | None = None
    ) -> None:
        """`topics` as choose_topics returns it; by default what it chooses. Raises InputError as it
        does.
        """
        self._node = node
        self._path = path
        self.topics = dict(choose_topics(bag_topics(path)) if topics is None else topics)
        self._fixed = StaticTransformBroadcaster(node)
        profiles = {MOVING: TF, ODOM: STATUS}
        self._publishers = {}
        for name in self.topics:
            if name != FIXED:
                profile = profiles.get(name, image_qos("reliable"))
                self._publishers[name] = node.create_publisher(_CLASSES[name], name, profile)

    @property
    def image_transport(self) -> str:
        """What the nodes' parameter of this name has to be: raw or compressed."""
        return "raw" if IMAGE in self.topics else "compressed"

    def wait_for_subscribers(self, timeout_s: float) -> bool:
        """Wait until somebody listens to the images and all others are there too; False when nobody
        does in time.
        """
        images = self._publishers[IMAGE if IMAGE in self.topics else COMPRESSED]
        deadline = time.monotonic() + timeout_s
        counts = [0]
        since = 0.0
        while True:
            now = time.monotonic()
            before = counts
            counts = [publisher.get_subscription_count() for publisher in self._publishers.values()]
            since = since if counts == before else now
            heard = images.get_subscription_count() > 0
            # a node's subscriptions are discovered one by one
            if heard and now - since >= _SETTLED:
                return True
            if now > deadline:
                return heard
            time.sleep(_POLL)

    def play(self, rate: float = 1.0, stop: threading.Event | None = None) -> int:
        """Play from the first message to the last, `rate` times as fast as it was recorded; returns
        the images played.

        Static transforms come before everything else, since they hold for all times. With rate 0 it
        goes as fast as reliable subscribers take the images; they still drop what they cannot work
        off. Ends early when `stop` is set. Raises InputError for a negative rate and for a bag that
        breaks off.
        """
        if not rate >= 0:
            raise InputError(
                f"rate is {rate}; expected a positive number, or 0 for as fast as possible"
            )
        stop = stop or threading.Event()
        self._publish_fixed()
        moving = {name: topic for name, topic in self.topics.items() if name != FIXED}
        images = 0
        first = None
        begin = time.monotonic()
        for message in read_bag(self._path, moving):
            first = message.time_ns if first is None else first
            due = begin + (message.time_ns - first) / (1e9 * rate) if rate > 0 else 0.0
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            publisher = self._publishers[message.name]
            publisher.publish(message.raw)
            if message.name in _PICTURES:
                images += message.name != DEPTH
                if rate == 0:
                    publisher.wait_for_all_acked(_ACKNOWLEDGED)
                    time.sleep(_BREATH)
        return images

    def destroy(self) -> None:
        """Destroy the publishers; the transforms that were latched are gone with them."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._fixed.destroy()

    def _publish_fixed(self) -> None:
        """All that several publishers latched, as one latched message: of ours only the last one
        would stay.
        """
        if FIXED not in self.topics:
            return
        for message in read_bag(self._path, {FIXED: self.topics[FIXED]}):
            for each in deserialize_message(message.raw, TFMessage).transforms:
                try:
                    pose = pose_from_transform(each.transform)
                except InputError as error:
                    self._node.get_logger().warning(
                        f"left out {each.child_frame_id!r} of /tf_static: {error}"
                    )
                    continue
                self._fixed.send(
                    each.header.frame_id, each.child_frame_id, stamp_ns(each.header.stamp), pose
                )


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A reader of the bag; whatever it raises while it is open becomes an InputError that names the
    bag.
    """
    path = Path(path).expanduser()
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise InputError(
            f"playing {path} needs the package rosbags, which is not installed: pip install"
            " 'vggt3_ros[bag]'"
        ) from error
    if not path.exists():
        raise InputError(f"there is no bag {path}; check the path")
    if path.suffix == ".bag":
        there = path.with_suffix("")
        raise InputError(
            f"{path} is a recording of ROS 1; convert it: rosbags-convert --src {path} --dst"
            f" {there}"
        )
    try:
        with Reader(path) as reader:
            yield reader
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as a ROS 2 bag: {error}; expected the folder that ros2 bag"
            " record made, or its .mcap or .db3 file (copy it again, or repair it with ros2 bag"
            " reindex)"
        ) from error
