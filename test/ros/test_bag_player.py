"""A recorded bag, whichever its format, reaches subscribers under our names, unchanged and in
order.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.demo.bag_player import BagPlayer, bag_topics, read_bag
from vggt3_ros.nodes.demo.bag_topics import BagTopic, choose_topics
from vggt3_ros.nodes.messages.conversions import (
    header,
    pose_message,
    stamp_ns,
    time_message,
    transform_from_pose,
)
from vggt3_ros.nodes.messages.images import image_message
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformListener

from ..patience import PATIENCE_S
from .processes import wait_for

rosbags = pytest.importorskip("rosbags.rosbag2")
from rosbags.typesys import Stores, get_typestore  # noqa: E402

START, PERIOD, COUNT = 1_600_000_000_000_000_000, 20_000_000, 12  # ns: a recording of 2020


def pose(x: float) -> torch.Tensor:
    result = torch.eye(4, dtype=torch.float64)
    result[0, 3] = x
    return result


def static(child: str, x: float) -> TFMessage:
    transform = TransformStamped(child_frame_id=child, transform=transform_from_pose(pose(x)))
    transform.header.frame_id, transform.header.stamp = "base_link", time_message(START)
    return TFMessage(transforms=[transform])


def picture(number: int) -> Image:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    return image_message(pixels, "camera", START + number * PERIOD)


@pytest.fixture(params=["sqlite3", "mcap"])
def bag(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A robot that drives along x at 50 images a second, and two publishers of static
    transforms.
    """
    store, path = get_typestore(Stores.ROS2_HUMBLE), tmp_path / "drive"
    plugin = rosbags.StoragePlugin[request.param.upper()]
    with rosbags.Writer(path, version=8, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}

        def write(topic: str, message: Any, time_ns: int) -> None:
            kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], time_ns, serialize_message(message))

        write("/tf_static", static("camera", 0.1), START - 5)
        write("/rosout_like", String(data="hello"), START)
        for number in range(COUNT):
            stamp = START + number * PERIOD
            odom = Odometry(header=header("odom", stamp), child_frame_id="base_link")
            odom.pose.pose = pose_message(pose(0.01 * number))
            write("/wheels/odom", odom, stamp)
            moved = TransformStamped(
                child_frame_id="base_link", transform=transform_from_pose(pose(0.01 * number))
            )
            moved.header.frame_id, moved.header.stamp = "odom", time_message(stamp)
            write("/tf", TFMessage(transforms=[moved]), stamp)
            write(
                "/front/camera_info",
                CameraInfo(header=header("camera", stamp), width=32, height=24),
                stamp + 1,
            )
            write("/front/image_raw", picture(number), stamp + 2)
        write("/tf_static", static("laser", 0.3), START + COUNT * PERIOD)
    return path


def test_a_bag_reaches_subscribers_in_order_and_unchanged(bag: Path, node: Node) -> None:
    received: dict[str, list[Any]] = {"image": [], "camera_info": [], "odom": []}
    node.create_subscription(Image, "image", received["image"].append, 100)
    node.create_subscription(CameraInfo, "camera_info", received["camera_info"].append, 100)
    node.create_subscription(Odometry, "odom", received["odom"].append, 100)
    buffer = TransformBuffer()
    player = BagPlayer(node, bag)
    assert player.topics == {
        "image": "/front/image_raw",
        "camera_info": "/front/camera_info",
        "odom": "/wheels/odom",
        "/tf": "/tf",
        "/tf_static": "/tf_static",
    }
    assert player.image_transport == "raw" and player.wait_for_subscribers(PATIENCE_S)
    listener = TransformListener(node, buffer)
    assert player.play(rate=1.0) == COUNT
    wait_for(lambda: all(len(messages) == COUNT for messages in received.values()), "all messages")
    for number, image in enumerate(received["image"]):
        assert image == picture(number)
    assert [stamp_ns(each.header.stamp) for each in received["camera_info"]] == [
        START + number * PERIOD for number in range(COUNT)
    ]
    last = START + (COUNT - 1) * PERIOD
    assert buffer.lookup("odom", "camera", last, PATIENCE_S)[0, 3] == pytest.approx(
        0.01 * (COUNT - 1) + 0.1
    )
    listener.destroy()

    late = TransformBuffer()
    listener = TransformListener(node, late)
    assert late.lookup("camera", "laser", last, PATIENCE_S)[0, 3] == pytest.approx(0.2), (
        "both publishers' are latched"
    )
    listener.destroy()
    player.destroy()


def test_as_fast_as_possible_loses_nothing_on_the_way_to_a_reliable_subscriber(
    bag: Path, node: Node
) -> None:
    received: list[Image] = []
    node.create_subscription(Image, "image", received.append, 100)
    player = BagPlayer(node, bag)
    assert player.wait_for_subscribers(PATIENCE_S) and player.play(rate=0.0) == COUNT
    wait_for(lambda: len(received) == COUNT, "all images")


def test_playing_ends_when_told_to_and_unheard_players_know_it(bag: Path, node: Node) -> None:
    player = BagPlayer(node, bag)
    assert not player.wait_for_subscribers(0.2)
    stop = threading.Event()
    stop.set()
    assert player.play(stop=stop) == 0
    with pytest.raises(InputError, match="rate is -1"):
        player.play(rate=-1)


def test_a_single_file_of_a_bag_is_read_too(bag: Path) -> None:
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    assert bag_topics(file) == bag_topics(bag)
    messages = list(read_bag(file, {"odom": "/wheels/odom"}))
    assert [each.time_ns for each in messages] == [
        START + number * PERIOD for number in range(COUNT)
    ]
    assert {(each.name, each.type) for each in messages} == {("odom", "nav_msgs/msg/Odometry")}


def truncate(bag: Path) -> Path:
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[:2000])
    return bag


def remove(bag: Path) -> Path:
    return bag.with_name("elsewhere")


def old(bag: Path) -> Path:
    path = bag.with_name("drive.bag")
    path.write_bytes(b"#ROSBAG V2.0\n")
    return path


def other(bag: Path) -> Path:
    path = bag.with_name("notes.txt")
    path.write_text("no bag")
    return path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "cannot be read"),
        (remove, "there is no bag"),
        (old, "rosbags-convert"),
        (other, "cannot be read"),
    ],
)
def test_what_is_no_bag_is_refused_with_its_name(
    bag: Path, damage: Callable[[Path], Path], words: str
) -> None:
    path = damage(bag)
    with pytest.raises(InputError, match=words) as caught:
        list(read_bag(path, choose_topics(bag_topics(path))))
    assert str(path) in str(caught.value)


def test_without_rosbags_the_error_says_what_to_install(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    with pytest.raises(InputError, match=r"pip install 'vggt3_ros\[bag\]'"):
        bag_topics(bag)


def topics(**kinds: str) -> list[BagTopic]:
    types = {"image": "sensor_msgs/msg/Image", "packed": "sensor_msgs/msg/CompressedImage",
             "info": "sensor_msgs/msg/CameraInfo", "odom": "nav_msgs/msg/Odometry",
             "tf": "tf2_msgs/msg/TFMessage", "text": "std_msgs/msg/String"}  # fmt: skip
    return [BagTopic("/" + name.replace("__", "/"), types[kind], 5) for name, kind in kinds.items()]


def test_the_calibrated_colour_camera_is_chosen() -> None:
    available = topics(
        cam__depth__image="image",
        cam__depth__camera_info="info",
        aaa__image="image",
        cam__rgb__image="image",
        cam__rgb__camera_info="info",
        cam__rgb__image__compressed="packed",
    )
    assert choose_topics(available) == {
        "image": "/cam/rgb/image",
        "camera_info": "/cam/rgb/camera_info",
    }


def test_a_compressed_camera_is_played_as_such() -> None:
    available = topics(
        cam__image_raw__compressed="packed", cam__camera_info="info", tf="tf", robot__tf_static="tf"
    )
    assert choose_topics(available) == {
        "image/compressed": "/cam/image_raw/compressed",
        "camera_info": "/cam/camera_info",
        "/tf": "/tf",
        "/tf_static": "/robot/tf_static",
    }


def test_wishes_come_first_and_topics_can_be_left_out() -> None:
    available = topics(
        a__image="image",
        a__camera_info="info",
        b__image="image",
        b__camera_info="info",
        odom="odom",
        d__depth="image",
    )
    wanted = {"image": "/b/image", "odom": "", "depth": "/d/depth"}
    assert choose_topics(available, wanted) == {
        "image": "/b/image",
        "camera_info": "/b/camera_info",
        "depth": "/d/depth",
    }


@pytest.mark.parametrize(
    "spelling",
    [
        "sensor_msgs/Image",
        "sensor_msgs/msg/Image",
        "sensor_msgs::msg::dds_::Image_",
        "sensor_msgs::msg::Image",
    ],
)
def test_a_type_may_be_spelt_in_several_ways(spelling: str) -> None:
    assert choose_topics([BagTopic("/cam/image", spelling, 3)]) == {"image": "/cam/image"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("odom", "odometry/filtered", "wheel/odom"), "/odometry/filtered"),
        (
            ("odometry/filtered/global", "odometry/filtered/local", "wheel/odom"),
            "/odometry/filtered/local",
        ),
        (("odometry/filtered", "odometry/filtered_map", "odometry/gps"), "/odometry/filtered"),
        (("wheel/odom",), "/wheel/odom"),
    ],
)
def test_of_several_odometries_the_filtered_one_is_chosen(
    names: tuple[str, ...], chosen: str
) -> None:
    available = topics(cam__image="image", **{name.replace("/", "__"): "odom" for name in names})
    assert choose_topics(available)["odom"] == chosen


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"odom": "odom", "wheel__odom": "odom"},
            "several odometries: /odom, /wheel/odom; .*--topic.* odom=/odom or",
        ),
        (
            {
                "left__image": "image",
                "left__camera_info": "info",
                "right__image": "image",
                "right__camera_info": "info",
            },
            "several cameras: /left/image, /right/image; .*image=/left/image",
        ),
        (
            {"a__image": "image", "b__image__compressed": "packed"},
            "several cameras: /a/image, /b/image/compressed",
        ),
        (
            {"a__image": "image", "b__camera_info": "info", "c__camera_info": "info"},
            "several calibrations, none of them beside /a/image: /b/camera_info, /c/camera_info",
        ),
        (
            {"a__image": "image", "r1__tf": "tf", "r2__tf": "tf"},
            "several topics of transforms: /r1/tf, /r2/tf",
        ),
    ],
)
def test_where_several_topics_would_do_the_user_is_asked(given: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_topics(
            topics(**{"cam__image": "image", **given} if "image" not in given.values() else given)
        )


def test_who_has_answered_is_not_asked() -> None:
    available = topics(
        cam__image="image",
        odom="odom",
        wheel__odom="odom",
        b__camera_info="info",
        c__camera_info="info",
    )
    answers = {"odom": "/wheel/odom", "camera_info": ""}
    assert choose_topics(available, answers) == {"image": "/cam/image", "odom": "/wheel/odom"}


def test_images_of_one_camera_are_no_several_cameras() -> None:
    available = topics(
        cam__camera_info="info",
        cam__image_rect="image",
        cam__image_raw="image",
        cam__image_raw__compressed="packed",
        cam__infra1__image_rect_raw="image",
        cam__infra1__camera_info="info",
    )
    assert choose_topics(available)["image"] == "/cam/image_raw"


def test_what_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(
        InputError, match=r"no images.*The bag has: /chatter \(std_msgs/msg/String, 5 messages\)"
    ):
        choose_topics(topics(chatter="text"))
    with pytest.raises(
        InputError, match=r"image is to be played from /nope, which is not there.*/a/image"
    ):
        choose_topics(topics(a__image="image"), {"image": "/nope"})
    with pytest.raises(InputError, match="no topic video"):
        choose_topics(topics(a__image="image"), {"video": "/a/image"})
