"""What a node listens to under which names, whoever publishes it how; and what it says when nothing
comes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.nodes.camera import awaited, topics
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.lost_messages import create_counted_subscription
from vggt3_ros.nodes.camera.parameters import CameraParameters
from vggt3_ros.nodes.camera.topic_names import image_topic, info_topic, is_rectified
from vggt3_ros.nodes.camera.topics import CameraTopics
from vggt3_ros.nodes.messages.conversions import header, time_message
from vggt3_ros.nodes.messages.qos import HINTS, image_qos
from vggt3_ros.nodes.messages.transforms import TransformBuffer
from vggt3_ros.nodes.runtime.listening import listens_to
from vggt3_ros.nodes.runtime.subscriptions import AdaptiveSubscription

from .processes import wait_for

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
LATCHED, VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
Listen = Callable[..., "Heard"]


class Heard:
    """The topics of a node called `camera_user` with these remappings, what came on them, and what
    it logged.
    """

    def __init__(
        self, executor: MultiThreadedExecutor, remappings: tuple[str, ...], changes: dict[str, Any]
    ) -> None:
        arguments = [
            "--ros-args",
            "-r",
            "__ns:=/vggt3",
            *(part for rule in remappings for part in ("-r", rule)),
        ]
        self.node = Node("camera_user", cli_args=arguments, use_global_arguments=False)
        self.log: list[str] = []
        logger = SimpleNamespace(warning=self._log, info=self._log)
        self.node.get_logger = lambda: logger  # type: ignore[method-assign]
        self.counts, self.buffer, self.images = ImageCounts(), TransformBuffer(), list[Any]()
        settings = CameraParameters(**{"odometry_source": "topic", **changes})
        self.topics = CameraTopics(
            self.node, settings, self.counts, self.images.append, self.buffer, use_depth=True
        )
        self._executor = executor
        executor.add_node(self.node)

    def _log(self, text: str, **options: Any) -> None:
        self.log.append(text)

    def end(self) -> None:
        self._executor.remove_node(self.node)
        time.sleep(0.1)  # a timer may be under way in another thread
        self.topics.destroy()
        self.node.destroy_node()

    def says(self, pattern: str) -> None:
        """Waits for such a line in the log."""
        wait_for(
            lambda: any(re.search(pattern, line) for line in self.log),
            f"{pattern!r} in the log",
        )


@pytest.fixture
def listen(executor: MultiThreadedExecutor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """listen("image:=/cam/image_raw", image_transport="compressed") makes a node; silence is
    noticed early.
    """
    monkeypatch.setattr(awaited, "_SILENCE", 0.4)
    monkeypatch.setattr(topics, "_LOOK", 0.1)
    made: list[Heard] = []

    def make(*remappings: str, **changes: Any) -> Heard:
        made.append(Heard(executor, remappings, changes))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def driver(ros_context: Context) -> Iterator[Node]:
    """A node in a context, and so a DDS participant, of its own, since a participant knows one type
    for a topic.
    """
    context = Context()
    context.init(args=[])
    node = Node("driver", namespace="/vggt3", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize(
    ("remappings", "transport", "image", "info"),
    [
        ((), "raw", "/vggt3/image", "/vggt3/camera_info"),
        ((), "compressed", "/vggt3/image/compressed", "/vggt3/camera_info"),
        (("image:=/cam/image_raw",), "raw", "/cam/image_raw", "/cam/camera_info"),
        (("image:=/cam/image_raw",), "compressed", "/cam/image_raw/compressed", "/cam/camera_info"),
        (
            ("image:=/cam/image_raw/compressed",),
            "compressed",
            "/cam/image_raw/compressed",
            "/cam/camera_info",
        ),
        (("image/compressed:=/cam/jpeg",), "compressed", "/cam/jpeg", "/cam/camera_info"),
        (
            ("image:=/a/b", "image/compressed:=/cam/jpeg"),
            "compressed",
            "/cam/jpeg",
            "/cam/camera_info",
        ),
        (
            ("image:=/a/b", "image/compressed:=/a/b/compressed", "camera_info:=/c"),
            "compressed",
            "/a/b/compressed",
            "/c",
        ),
        (
            ("image:=front/image",),
            "compressed",
            "/vggt3/front/image/compressed",
            "/vggt3/front/camera_info",
        ),
    ],
)
def test_names_are_those_of_image_transport(
    ros_context: object, remappings: tuple[str, ...], transport: str, image: str, info: str
) -> None:
    arguments = [
        "--ros-args",
        "-r",
        "__ns:=/vggt3",
        *(part for rule in remappings for part in ("-r", rule)),
    ]
    node = Node("camera_user", cli_args=arguments, use_global_arguments=False)
    assert (image_topic(node, transport), info_topic(node, transport)) == (image, info)
    node.destroy_node()


def test_rectified_images_are_known_by_their_name() -> None:
    assert is_rectified("/cam/image_rect") and is_rectified("/cam/image_rect_color/compressed")
    assert not is_rectified("/cam_rect/image_raw") and not is_rectified("/direct/image_direct")


@pytest.mark.parametrize("qos", ["sensor_data", "reliable"])
@pytest.mark.parametrize(
    ("reliability", "durability"),
    [(RELIABLE, LATCHED), (RELIABLE, VOLATILE), (BEST_EFFORT, VOLATILE)],
)
def test_calibration_and_odometry_arrive_however_they_are_published(
    node: Node,
    listen: Listen,
    reliability: ReliabilityPolicy,
    durability: DurabilityPolicy,
    qos: str,
) -> None:
    profile = QoSProfile(depth=5, reliability=reliability, durability=durability)
    infos = node.create_publisher(CameraInfo, "camera_info", profile)
    odometries = node.create_publisher(Odometry, "odom", profile)
    fixed = node.create_publisher(TFMessage, "/tf_static", profile)

    def publish() -> None:
        infos.publish(CameraInfo(width=7))
        odometries.publish(Odometry(header=header("odom", 5), child_frame_id="base"))
        transform = TransformStamped(header=header("base", 5), child_frame_id="camera")
        fixed.publish(TFMessage(transforms=[transform]))

    def arrived() -> bool:
        if durability == VOLATILE:
            publish()
        parents = [heard.buffer.parent_of(child) for child in ("base", "camera")]
        return heard.topics.info is not None and parents == ["odom", "base"]

    publish()  # once, before anybody listens
    heard = listen(image_qos=qos)
    wait_for(arrived, "calibration and odometry")


def test_what_comes_by_two_ways_is_taken_once(node: Node) -> None:
    heard: list[Header] = []
    subscription = AdaptiveSubscription(node, Header, "hint", heard.append, HINTS)
    publisher = node.create_publisher(Header, "hint", QoSProfile(depth=5, durability=LATCHED))
    wait_for(lambda: publisher.get_subscription_count() == 2, "both subscriptions")
    for frame in ("a", "b", "b", "end"):
        count = len(heard)
        publisher.publish(Header(frame_id=frame))
        wait_for(lambda: len(heard) > count, "a message")  # noqa: B023
    assert [each.frame_id for each in heard] == ["a", "b", "b", "end"]
    subscription.destroy()


def test_all_topics_are_told_with_type_and_quality(listen: Listen) -> None:
    line = listens_to(
        listen("image:=/cam/image_raw", image_transport="compressed", image_qos="reliable").node
    )
    assert "/cam/image_raw/compressed (sensor_msgs/msg/CompressedImage, reliable)" in line
    assert "/vggt3/odom (nav_msgs/msg/Odometry, best effort)" in line
    assert "/tf (tf2_msgs/msg/TFMessage, reliable)" in line and "/parameter_events" not in line


def test_silence_is_told_once_with_what_there_is_and_its_end(node: Node, listen: Listen) -> None:
    other = node.create_publisher(Image, "/front/image_raw", 1)
    heard = listen("camera_info:=/my/info")
    heard.says(
        r"no image for .* on /vggt3/image \(sensor_msgs/msg/Image\): nobody publishes it; there are"
        r" /front/image_raw "
        r"\(sensor_msgs/msg/Image\): remap image \(-r image:=TOPIC\)"
    )
    heard.says(
        "no camera_info for .* on /my/info .* no topic of type sensor_msgs/msg/CameraInfo at all"
    )
    heard.says("no depth for .*/front/image_raw")
    heard.says(r"no odom for .* on /vggt3/odom \(nav_msgs/msg/Odometry\)")
    assert "no image for" in heard.topics.problem
    publisher = node.create_publisher(Image, "image", 1)
    heard.says("no image for .*/vggt3/tester publishes it, but nothing arrives")
    wait_for(publisher.get_subscription_count, "the subscription")
    publisher.publish(Image(header=header("", 5)))
    heard.says("image comes now on /vggt3/image, after")
    assert heard.counts.received == 1 and "no image" not in heard.topics.problem
    assert (
        sum(
            "nobody publishes it; there are /front" in line and "no image" in line
            for line in heard.log
        )
        == 1
    )
    node.destroy_publisher(other)


def test_a_calibration_that_came_once_is_enough(node: Node, listen: Listen) -> None:
    latched = QoSProfile(depth=1, durability=LATCHED)
    node.create_publisher(CameraInfo, "camera_info", latched).publish(CameraInfo())
    heard = listen()
    wait_for(lambda: heard.topics.info, "the calibration")
    heard.says("no image for")
    heard.says("no odom for")
    assert not any("no camera_info for" in line for line in heard.log)


@pytest.mark.parametrize(
    ("kind", "topic", "reliability", "changes", "words"),
    [
        (
            Image,
            "image",
            BEST_EFFORT,
            {"image_qos": "reliable"},
            "publishes it best effort.* image_qos to sensor_data",
        ),
        (
            CompressedImage,
            "image",
            RELIABLE,
            {},
            "publishes sensor_msgs/msg/CompressedImage.* to compressed",
        ),
        (
            Image,
            "image/compressed",
            RELIABLE,
            {"image_transport": "compressed"},
            "publishes sensor_msgs/msg/Image .* to raw",
        ),
        (
            CompressedImage,
            "depth",
            RELIABLE,
            {},
            "publishes .*CompressedImage.* remap depth to .*compressedDepth",
        ),
        (
            Header,
            "odom",
            RELIABLE,
            {},
            "publishes std_msgs/msg/Header there, expected nav_msgs/msg/Odometry",
        ),
    ],
)
def test_a_publisher_that_cannot_be_heard_is_named(
    driver: Node,
    listen: Listen,
    kind: type,
    topic: str,
    reliability: ReliabilityPolicy,
    changes: Any,
    words: str,
) -> None:
    driver.create_publisher(kind, topic, QoSProfile(depth=1, reliability=reliability))
    listen(**changes).says(f"/vggt3/driver {words}")


def test_a_rectified_topic_without_the_parameter_is_warned_of(listen: Listen) -> None:
    listen("image:=/cam/image_rect").says("/cam/image_rect .*set rectified to true")
    assert not any(
        "rectified" in line for line in listen("image:=/cam/image_rect", rectified=True).log
    )


def test_a_second_camera_on_the_topic_is_warned_of_once(
    node: Node, driver: Node, listen: Listen
) -> None:
    for each in (node, driver):
        each.create_publisher(Image, "image", 1)
    heard = listen()
    heard.says(
        "/vggt3/image is published by 2 nodes, /vggt3/driver and /vggt3/tester: images of several"
        " cameras"
    )
    time.sleep(0.3)  # in which it looks again
    assert sum("is published by 2 nodes" in line for line in heard.log) == 1


def test_a_camera_that_is_not_introduced_yet_is_not_warned_of_under_another_name(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = "_NODE_NAMESPACE_UNKNOWN_/_NODE_NAME_UNKNOWN_"
    known = threading.Event()
    monkeypatch.setattr(
        topics,
        "publishers_of",
        lambda node, topic: ["/left", "/right" if known.is_set() else unknown],
    )
    heard = listen()
    time.sleep(0.4)  # in which it looks several times
    assert not any("is published by" in line for line in heard.log)
    known.set()
    heard.says("/vggt3/image is published by 2 nodes, /left and /right: images of several cameras")


def test_images_that_did_not_come_are_counted(node: Node, listen: Listen) -> None:
    heard = listen()
    publisher = node.create_publisher(Image, "image", image_qos("reliable"))
    wait_for(publisher.get_subscription_count, "the subscription")
    for number in (0, 1, 2, 3, 4, 5, 6, 9, 10):
        image = Image()
        image.header.stamp = time_message(10**18 + number * 33_000_000)
        publisher.publish(image)
        wait_for(lambda: heard.images[-1:] == [image], "an image")  # noqa: B023
    assert (heard.counts.received, heard.counts.lost) == (9, 2)


def test_images_that_a_slow_node_did_not_fetch_are_counted(
    node: Node, ros_context: Context
) -> None:
    """A full queue drives them out; the camera's period cannot tell when every third one comes."""
    slow = Node("slow", namespace="/vggt3")  # nobody serves it meanwhile
    counts, received = ImageCounts(), list[Any]()
    subscription = create_counted_subscription(
        slow,
        Header,
        "flood",
        received.append,
        QoSProfile(depth=2, reliability=BEST_EFFORT),
        counts.lost_in_transit,
    )
    publisher = node.create_publisher(Header, "flood", QoSProfile(depth=9, reliability=BEST_EFFORT))
    wait_for(publisher.get_subscription_count, "the subscription")

    def fetch(last: str) -> None:
        def arrived() -> bool:
            rclpy.spin_once(slow, timeout_sec=0.1)
            return bool(received) and received[-1].frame_id == last

        wait_for(arrived, "a message")

    publisher.publish(Header(frame_id="first"))
    fetch("first")
    for number in range(9):
        publisher.publish(Header(frame_id=str(number)))
    time.sleep(1.0)  # until all have come
    fetch("8")
    assert len(received) + counts.lost == 10 and counts.lost == 7
    slow.destroy_subscription(subscription)
    slow.destroy_node()
