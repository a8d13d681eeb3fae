"""The simulated camera plays its legs in real time; images, calibration, TF and odometry belong
together.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Pose, PoseStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vggt3_ros.nodes.messages.camera_info import camera_from_info
from vggt3_ros.nodes.messages.conversions import pose_from_message, stamp_ns
from vggt3_ros.nodes.messages.images import image_from_compressed, image_from_message
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS, image_qos
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformError, TransformListener
from vggt3_ros.nodes.sim_camera.playback import Motion, Playback

from ..patience import PATIENCE_S
from .processes import NodeProcess, wait_for

QUICK = {
    "width": 64,
    "height": 48,
    "supersample": 1,
    "length": 1.5,
    "rate": 20.0,
    "speed": 0.8,
    "turn_speed": 2.0,
}
StartNode = Callable[..., NodeProcess]
# As reliable as STATUS, with room for all that comes while a busy machine holds the test up: with
# 10, poses were lost.
ALL_POSES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1000,
    reliability=STATUS.reliability,
    durability=STATUS.durability,
)


class Watcher:
    """What comes from the camera, by topic, oldest first."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.seen: dict[str, list[Any]] = defaultdict(list)
        self.buffer = TransformBuffer()
        self.listener = TransformListener(node, self.buffer)
        for topic, kind, qos in (
            ("image", Image, image_qos("sensor_data")),
            ("image/compressed", CompressedImage, image_qos("reliable")),
            ("camera_info", CameraInfo, image_qos("sensor_data")),
            ("odom", Odometry, ALL_POSES),
            ("sim_camera/true_pose", PoseStamped, ALL_POSES),
            ("sim_camera/leg", String, LATCHED),
        ):
            node.create_subscription(kind, topic, self.seen[topic].append, qos)

    @property
    def leg(self) -> str:
        return self.seen["sim_camera/leg"][-1].data if self.seen["sim_camera/leg"] else ""

    def wait_for_leg(self, label: str) -> None:
        wait_for(lambda: self.leg == label, f"{label!r}; the last one was {self.leg!r}")

    def newest(self, topic: str) -> Any:
        """A message that was sent after this call."""
        count, now = len(self.seen[topic]), self.now()

        def sent_since() -> list[Any]:
            return [each for each in self.seen[topic][count:] if stamp_ns(each.header.stamp) > now]

        return wait_for(sent_since, f"messages on {topic}")[-1]

    def wait_until_heard(self, topic: str, stamp: int) -> None:
        """Until nothing older is under way on a topic."""
        wait_for(
            lambda: any(stamp_ns(each.header.stamp) >= stamp for each in self.seen[topic][-1:]),
            f"{topic} of {stamp}",
        )

    def now(self) -> int:
        """Nanoseconds, by the clock of the stamps."""
        return int(self.node.get_clock().now().nanoseconds)

    def call(self, service: str) -> Trigger.Response:
        return self.call_at_once(service, 1)[0]

    def call_at_once(self, service: str, count: int) -> list[Trigger.Response]:
        """The answers to several requests, sent before the first one is answered."""
        client = self.node.create_client(Trigger, service)
        assert client.wait_for_service(PATIENCE_S)
        asked = [client.call_async(Trigger.Request()) for _ in range(count)]
        wait_for(lambda: all(each.done() for each in asked), f"answers of {service}")
        return [each.result() for each in asked]

    def set(self, name: str, value: bool) -> Any:
        client = self.node.create_client(SetParameters, "sim_camera/set_parameters")
        assert client.wait_for_service(PATIENCE_S)
        content = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=content)])
        return client.call(request, timeout_sec=PATIENCE_S).results[0]

    def truth_at(self, stamp: int) -> torch.Tensor | None:
        found = [
            pose.pose
            for pose in self.seen["sim_camera/true_pose"]
            if stamp_ns(pose.header.stamp) == stamp
        ]
        return pose_from_message(found[0]) if found else None


@pytest.fixture
def watcher(node: Node) -> Watcher:
    return Watcher(node)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(a[:3, 3] - b[:3, 3]))


def test_a_drive_from_the_first_leg_to_the_last(watcher: Watcher, start_node: StartNode) -> None:
    camera = start_node(
        "sim_camera_node", parameters={**QUICK, "wait_to_start": True, "compressed": True}
    )
    watcher.wait_for_leg("leg 0 waiting")
    first = image_from_message(watcher.newest("image"))
    second = image_from_message(watcher.newest("image"))
    assert not np.array_equal(first, second), (
        "a standing camera sends new images, each with noise of its own"
    )
    assert np.abs(first.astype(int) - second).max() < 20
    before = len(watcher.seen["image"])
    first_answer, second_answer = watcher.call_at_once("sim_camera/next_leg", 2)
    assert first_answer.success
    assert not second_answer.success, "the leg runs already"
    watcher.wait_for_leg("leg 0 done")

    images = watcher.seen["image"][before:]
    stamps = [stamp_ns(image.header.stamp) for image in images]
    assert stamps == sorted(set(stamps)) and len(stamps) > 10
    assert (
        image_from_message(images[0]).shape == (48, 64, 3)
        and images[0].header.frame_id == "camera_optical"
    )

    def twice() -> list[tuple[CompressedImage, Image]]:
        """An image that came both ways; on a busy machine one may be lost, or late."""
        packed = watcher.newest("image/compressed")
        both = [(packed, image) for image in watcher.seen["image"]]
        return [(a, b) for a, b in both if a.header.stamp == b.header.stamp]

    packed, same = wait_for(twice, "an image both raw and compressed")[0]
    assert np.abs(image_from_compressed(packed).astype(int) - image_from_message(same)).mean() < 10
    info = watcher.seen["camera_info"][-1]
    intrinsics, distortion = camera_from_info(info, (48, 64))
    assert (
        distortion is None
        and intrinsics[0, 0] == pytest.approx(32 / np.tan(0.6))
        and intrinsics[0, 2] == 32
    )

    # Without drift odometry is the truth, at exactly the stamps of the images.
    watcher.wait_until_heard("sim_camera/true_pose", stamps[-1])
    watcher.wait_until_heard("odom", stamps[-1])
    travelled = [watcher.truth_at(stamp) for stamp in stamps]
    for stamp, map_from_base in zip(stamps, travelled, strict=True):
        assert map_from_base is not None
        torch.testing.assert_close(
            watcher.buffer.lookup("odom", "base_link", stamp, PATIENCE_S), map_from_base
        )
    mount = watcher.buffer.lookup("base_link", "camera_optical", stamps[-1])
    ahead = mount[:3, :3] @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ahead, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert mount[:3, 3].tolist() == pytest.approx([0.1, 0.0, 0.2])
    odometry = {stamp_ns(each.header.stamp): each for each in watcher.seen["odom"]}
    torch.testing.assert_close(pose_from_message(odometry[stamps[-1]].pose.pose), travelled[-1])
    assert (
        odometry[stamps[0]].header.frame_id == "odom"
        and odometry[stamps[0]].child_frame_id == "base_link"
    )
    assert max(each.twist.twist.linear.x**2 for each in odometry.values()) < 2.0

    end = pose_from_message(watcher.newest("sim_camera/true_pose").pose)
    assert watcher.call("sim_camera/next_leg").success
    watcher.wait_for_leg("leg 1 done")
    legs = [message.data for message in watcher.seen["sim_camera/leg"]]
    assert legs[-3:] == ["leg 0 done", "leg 1 running", "leg 1 done"]
    seen = watcher.seen["sim_camera/true_pose"]  # poses come in after the word that it is done
    wait_for(lambda: apart(pose_from_message(seen[-1].pose), end) > 0.2, "the end of leg 1")
    poses = [pose_from_message(each.pose) for each in seen]
    assert max(apart(a, b) for a, b in zip(poses[:-1], poses[1:], strict=True)) < 0.25, (
        "the legs join"
    )
    assert not watcher.call("sim_camera/next_leg").success, "there is no further leg"
    assert camera.stop(signal.SIGINT) == 0
    assert camera.log.index("leg 0 waiting") < camera.log.rindex("images of leg 1"), (
        "it does not wait for the images of the second leg before it is ready for the first"
    )


def test_faults_can_be_played_while_it_stands(watcher: Watcher, start_node: StartNode) -> None:
    camera = start_node("sim_camera_node", parameters=QUICK)
    watcher.wait_for_leg("leg 0 done")
    assert image_from_message(watcher.newest("image")).mean() > 15
    assert watcher.set("cover_lens", True).successful
    watcher.newest("image")
    assert image_from_message(watcher.newest("image")).mean() < 3
    assert watcher.set("cover_lens", False).successful

    assert watcher.set("publish_images", False).successful
    stopped = watcher.now()
    watcher.wait_until_heard("odom", stopped + 300_000_000)
    late = [each for each in watcher.seen["image"] if stamp_ns(each.header.stamp) > stopped]
    assert not late, "odometry goes on, images do not"
    assert watcher.set("publish_images", True).successful
    watcher.newest("image")

    refused = watcher.set("loop", True)
    assert not refused.successful and "publish_images" in refused.reason

    truth = pose_from_message(watcher.newest("sim_camera/true_pose").pose)
    odometry = watcher.newest("odom").pose.pose
    assert watcher.call("sim_camera/teleport").success
    watcher.newest("odom")
    carried = pose_from_message(watcher.newest("sim_camera/true_pose").pose)
    assert apart(carried, truth) > 0.3
    assert (
        apart(pose_from_message(watcher.newest("odom").pose.pose), pose_from_message(odometry))
        < 1e-9
    )
    assert watcher.call("sim_camera/odom_jump").success
    watcher.newest("odom")
    assert apart(
        pose_from_message(watcher.newest("odom").pose.pose), pose_from_message(odometry)
    ) == pytest.approx(1.0)
    assert apart(pose_from_message(watcher.newest("sim_camera/true_pose").pose), carried) < 1e-9
    assert camera.stop(signal.SIGTERM) == 0


def position(pose: Pose) -> torch.Tensor:
    return pose_from_message(pose)[:3, 3]


def test_odometry_drifts_as_told_and_can_stay_off_tf(
    watcher: Watcher, start_node: StartNode
) -> None:
    start_node(
        "sim_camera_node", parameters={**QUICK, "odom_scale_error": 0.5, "publish_tf": False}
    )
    watcher.wait_for_leg("leg 0 done")
    odom = watcher.newest("odom")
    true, believed = (
        {stamp_ns(each.header.stamp): each for each in watcher.seen[topic]}
        for topic in ("sim_camera/true_pose", "odom")
    )
    both = sorted(true.keys() & believed.keys())  # the first may have come before the watcher
    first, last = both[0], both[-1]
    true_way = position(true[last].pose) - position(true[first].pose)
    believed_way = position(believed[last].pose.pose) - position(believed[first].pose.pose)
    assert float(true_way.norm()) > 0.3
    torch.testing.assert_close(believed_way, 1.5 * true_way, rtol=0.0, atol=0.02)
    with pytest.raises(TransformError):
        watcher.buffer.lookup("odom", "base_link", stamp_ns(odom.header.stamp))


def test_a_lens_that_cannot_be_ends_the_node_with_a_sentence(start_node: StartNode) -> None:
    camera = start_node(
        "sim_camera_node",
        parameters={**QUICK, "distortion": [-3.0, 0.0, 0.0, 0.0, 0.0]},
    )
    wait_for(lambda: not camera.is_running, "the node's end")
    assert (
        camera.exit_code == 1
        and "error: distortion" in camera.log
        and "Traceback" not in camera.log
    )


def test_a_leg_begins_while_its_last_images_are_rendered(start_node: StartNode) -> None:
    slow = {**QUICK, "width": 640, "height": 480, "rate": 2.0, "speed": 0.05}
    camera = start_node("sim_camera_node", parameters=slow)
    wait_for(lambda: "images of leg 1" in camera.log, "leg 1")
    begun = camera.log.index("leg 0 running")
    assert begun < camera.log.rindex("images of leg 0")
    assert camera.stop(signal.SIGTERM) == 0


def test_a_signal_ends_it_while_it_renders(start_node: StartNode) -> None:
    camera = start_node("sim_camera_node", parameters={"width": 640, "height": 480})
    wait_for(lambda: "rendering" in camera.log, "rendering")
    time.sleep(0.5)
    assert camera.stop(signal.SIGTERM) == 0
    assert "Traceback" not in camera.log and "leg 0" not in camera.log


def labels(playback: Playback, ticks: int) -> list[tuple[int, int, Motion]]:
    seen = []
    for _ in range(ticks):
        seen.append((playback.leg, playback.frame, playback.motion))
        playback.advance()
    return seen


def test_playback_goes_through_all_legs_at_once_when_it_need_not_wait() -> None:
    run, done = Motion.RUNNING, Motion.DONE
    seen = labels(Playback([2, 2], wait_between_legs=False), 6)
    assert seen == [(0, 0, run), (0, 1, run), (1, 0, run), (1, 1, run), (1, 1, done), (1, 1, done)]


def test_playback_loops_to_and_fro_on_the_last_leg() -> None:
    seen = labels(Playback([1, 3], wait_between_legs=False, loop=True), 8)
    assert [(leg, frame) for leg, frame, _ in seen] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 1),
        (1, 0),
        (1, 1),
        (1, 2),
    ]


def test_playback_waits_where_it_is_told_to() -> None:
    playback = Playback([2, 2], wait_to_start=True)
    assert labels(playback, 2)[-1] == (0, 0, Motion.WAITING)
    assert playback.next_leg() == (True, "leg 0 running") and not playback.next_leg()[0]
    assert labels(playback, 4)[-1] == (0, 1, Motion.DONE)
    assert playback.next_leg() == (True, "leg 1 running")
    assert labels(playback, 4)[-1] == (1, 1, Motion.DONE)
    assert playback.next_leg() == (False, "leg 1 was the last one")
