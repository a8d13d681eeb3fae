"""The transform buffer, and transforms between nodes over DDS."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import numpy as np
import pytest
import rclpy
import torch
from geometry_msgs.msg import Transform, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from tf2_msgs.msg import TFMessage
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3
from vggt3_ros.nodes.messages.conversions import pose_message, time_message, transform_from_pose
from vggt3_ros.nodes.messages.qos import TF
from vggt3_ros.nodes.messages.transforms import (
    StaticTransformBroadcaster,
    TransformBroadcaster,
    TransformBuffer,
    TransformError,
    TransformListener,
    odometry_into,
)

from ..patience import PATIENCE_S
from .processes import wait_for

SECOND = 10**9


def pose(
    turn: tuple[float, float, float] = (0, 0, 0), position: tuple[float, float, float] = (0, 0, 0)
) -> Tensor:
    return se3(
        rotation_from_axis_angle(torch.tensor(turn).double()), torch.tensor(position).double()
    )


A = pose((0.2, -0.1, 0.7), (1.0, 2.0, 3.0))
B = pose((-1.0, 0.3, 0.2), (-0.5, 0.1, 0.0))
C = pose((0.0, 2.0, 0.1), (0.0, 0.0, 4.0))


def same(actual: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(actual, expected, atol=1e-9))


@pytest.fixture
def buffer() -> TransformBuffer:
    return TransformBuffer(seconds=10.0)


def test_transform_maps_from_the_child_to_the_parent_and_back(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, A)
    assert same(buffer.lookup("odom", "base", 5), A)
    assert same(buffer.lookup("base", "odom", 5), torch.linalg.inv(A))
    assert same(buffer.lookup("base", "base", 5), torch.eye(4).double())


def test_frames_are_connected_through_several_others(buffer: TransformBuffer) -> None:
    buffer.add("map", "odom", 0, A, static=True)
    buffer.add("odom", "base", 5, B)
    buffer.add("base", "camera", 0, C, static=True)
    buffer.add("base", "lidar", 0, A, static=True)
    assert same(buffer.lookup("map", "camera", 5), A @ B @ C)
    assert same(buffer.lookup("camera", "map", 5), torch.linalg.inv(A @ B @ C))
    assert same(buffer.lookup("lidar", "camera", 5), torch.linalg.inv(A) @ C)
    assert same(buffer.lookup("odom", "camera", 5), B @ C)


def test_siblings_need_no_data_of_their_parent(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, B)
    buffer.add("base", "camera", 0, C, static=True)
    buffer.add("base", "lidar", 0, A, static=True)
    assert same(buffer.lookup("lidar", "camera", 10**15), torch.linalg.inv(A) @ C)


def test_pose_between_two_stamps_is_a_share_of_the_way_and_the_turn(
    buffer: TransformBuffer,
) -> None:
    buffer.add("odom", "base", 2 * SECOND, pose((0, 0, 3.0), (10.0, 0, 0)))
    # over pi: the short way is 0.783 rad
    buffer.add("odom", "base", 3 * SECOND, pose((0, 0, -2.5), (13.0, 6.0, 0)))
    step = 2 * math.pi - 5.5
    expected = pose((0, 0, 3.0 + step / 4), (10.75, 1.5, 0))
    assert same(buffer.lookup("odom", "base", 2 * SECOND + SECOND // 4), expected)


def test_nearly_equal_rotations_are_interpolated_without_loss(buffer: TransformBuffer) -> None:
    for index, turn in enumerate((0.3, 0.3 + 1e-5, 0.3 + 1e-5)):
        buffer.add("odom", "base", 100 * index, pose((turn, 0, 0)))
    assert torch.allclose(buffer.lookup("odom", "base", 50), pose((0.3 + 5e-6, 0, 0)), atol=1e-12)
    assert torch.allclose(buffer.lookup("odom", "base", 150), pose((0.3 + 1e-5, 0, 0)), atol=1e-12)


def test_data_may_arrive_in_any_order(buffer: TransformBuffer) -> None:
    for stamp in (30, 10, 40, 20):
        buffer.add("odom", "base", stamp, pose(position=(float(stamp), 0, 0)))
    assert [float(buffer.lookup("odom", "base", stamp)[0, 3]) for stamp in (10, 15, 25, 40)] == [
        10,
        15,
        25,
        40,
    ]


def test_newest_of_one_stamp_counts(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, A)
    buffer.add("odom", "base", 5, B)
    assert same(buffer.lookup("odom", "base", 5), B)


def test_nothing_is_extrapolated(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 2 * SECOND, A)
    buffer.add("odom", "base", 3 * SECOND, B)
    with pytest.raises(
        TransformError, match=r"known from 2\.000 s to 3\.000 s, 0\.500 s short"
    ) as late:
        buffer.lookup("odom", "base", 3 * SECOND + SECOND // 2)
    with pytest.raises(
        TransformError, match=r"known from 2\.000 s to 3\.000 s, which begins 0\.100 s too"
    ) as early:
        buffer.lookup("odom", "base", 2 * SECOND - SECOND // 10)
    assert early.value.final and not late.value.final


@pytest.mark.parametrize("off", [1, 240, 999_999])
def test_stamps_that_were_rounded_find_their_sample(buffer: TransformBuffer, off: int) -> None:
    """As those that went through seconds as floating-point numbers, or through files that have
    milliseconds.
    """
    for stamp, value in ((2, A), (3, B), (5, C)):
        buffer.add("odom", "base", stamp * SECOND, value)
    assert same(buffer.lookup("odom", "base", 2 * SECOND - off), A)
    assert same(buffer.lookup("odom", "base", 5 * SECOND + off), C)
    assert torch.allclose(buffer.lookup("odom", "base", 3 * SECOND + off), B, atol=0.01), (
        "at the edge of a gap"
    )


def test_gap_without_data_is_not_interpolated(buffer: TransformBuffer) -> None:
    for stamp in (2.0, 3.0, 4.5, 5.0):
        buffer.add("odom", "base", round(stamp * SECOND), A)
    buffer.add("base", "camera", 0, C, static=True)
    for stamp in (2.0, 2.5, 3.0, 4.5, 4.75):  # at both ends of the gap, and where there is none
        assert same(buffer.lookup("odom", "camera", round(stamp * SECOND)), A @ C)
    why = (
        r"'base' in 'odom' .* not between 3\.000 s and 4\.500 s, .*at most 1 s.* is no odometry:"
        r" raise its rate"
    )
    for stamp in (3.001, 4.499):
        with pytest.raises(TransformError, match=why) as gap:
            # waiting would not help
            buffer.lookup("odom", "camera", round(stamp * SECOND), timeout_s=1e6)
        assert gap.value.final


def test_gap_that_is_allowed_can_be_chosen() -> None:
    buffer = TransformBuffer(max_gap_s=0.1)
    for stamp in (0.0, 0.1, 0.3):
        buffer.add("odom", "base", round(stamp * SECOND), A)
    assert same(buffer.lookup("odom", "base", SECOND // 20), A)
    with pytest.raises(TransformError, match=r"at most 0\.1 s"):
        buffer.lookup("odom", "base", SECOND // 5)


def test_only_the_last_seconds_are_kept(buffer: TransformBuffer) -> None:
    for stamp in range(25):
        buffer.add("odom", "base", stamp * SECOND, A)
    buffer.lookup("odom", "base", 14 * SECOND)
    with pytest.raises(TransformError, match=r"known from 14\.000 s to 24\.000 s"):
        buffer.lookup("odom", "base", 13 * SECOND)


def test_clock_that_was_set_back_further_than_that_starts_anew(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 100 * SECOND, A)
    buffer.add("odom", "base", 1 * SECOND, B)
    assert same(buffer.lookup("odom", "base", 1 * SECOND), B)
    with pytest.raises(TransformError, match="short"):
        buffer.lookup("odom", "base", 100 * SECOND)


def test_missing_frames_are_named_with_those_that_are_known(buffer: TransformBuffer) -> None:
    with pytest.raises(
        TransformError, match="'camera' and 'odom' never appeared .* known are none"
    ):
        buffer.lookup("odom", "camera", 5)
    buffer.add("odom", "base", 5, A)
    with pytest.raises(
        TransformError, match=r"'camera' never appeared .* known are \['base', 'odom'\]"
    ):
        buffer.lookup("odom", "camera", 5)


def test_gap_between_two_trees_is_named(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, A)
    buffer.add("mount", "camera", 5, A)
    with pytest.raises(
        TransformError, match="not connected: 'camera' hangs from 'mount', 'odom' from 'odom'"
    ):
        buffer.lookup("odom", "camera", 5)


def test_frames_in_a_loop_are_named(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, A)
    buffer.add("base", "odom", 5, A)
    with pytest.raises(TransformError, match="loop: 'base' in 'odom' in 'base'"):
        buffer.lookup("map", "base", 5)


def test_parent_is_known_and_the_newest_counts(buffer: TransformBuffer) -> None:
    assert buffer.parent_of("camera") is None
    buffer.add("map", "camera", 5, A)
    buffer.add("base", "camera", 0, B, static=True)
    assert (buffer.parent_of("camera"), buffer.parent_of("base")) == ("base", None)
    assert same(buffer.lookup("base", "camera", 77), B)


def test_leading_slash_makes_no_difference(buffer: TransformBuffer) -> None:
    buffer.add("/odom", "base", 5, A)
    assert same(buffer.lookup("odom", "/base", 5), A) and buffer.parent_of("/base") == "odom"


def test_clear_keeps_static_transforms_alone(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 5, A)
    buffer.add("base", "camera", 0, C, static=True)
    buffer.clear()
    assert same(buffer.lookup("base", "camera", 5), C)
    with pytest.raises(TransformError, match="'odom' never appeared"):
        buffer.lookup("odom", "camera", 5)


@pytest.mark.parametrize(
    ("parent", "child", "value"),
    [
        ("odom", "base", torch.full((4, 4), math.nan)),
        ("odom", "base", torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))),
        ("odom", "base", torch.eye(3)),
        ("", "base", A),
        ("odom", "", A),
        ("odom", "odom", A),
    ],
)
def test_what_is_no_transform_is_refused(
    buffer: TransformBuffer, parent: str, child: str, value: Tensor
) -> None:
    with pytest.raises(InputError, match=f"transform from '{child}' to '{parent}'"):
        buffer.add(parent, child, 5, value)
    assert buffer.parent_of("base") is None


def test_lookup_waits_for_data_of_another_thread(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 1 * SECOND, A)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(buffer.lookup, "odom", "camera", 2 * SECOND, 60.0)
        buffer.add("base", "camera", 0, C, static=True)
        assert not waiting.done()
        buffer.add("odom", "base", 2 * SECOND, A)
        assert same(waiting.result(20.0), A @ C)


def test_lookup_gives_up_in_the_end(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 1 * SECOND, A)
    with pytest.raises(TransformError, match=r"1\.000 s short"):
        buffer.lookup("odom", "base", 2 * SECOND, timeout_s=0.05)


def test_lookup_does_not_wait_for_the_past(buffer: TransformBuffer) -> None:
    buffer.add("odom", "base", 2 * SECOND, A)
    with pytest.raises(TransformError, match="too late"):
        buffer.lookup("odom", "base", 1 * SECOND, timeout_s=1e6)


def test_threads_that_write_and_read_do_not_disturb_each_other(buffer: TransformBuffer) -> None:
    ended = threading.Event()

    def write(child: str) -> None:
        for stamp in range(300):
            buffer.add_message("odom", child, stamp * SECOND // 100, transform_from_pose(A))

    def read() -> None:
        while not ended.is_set():
            with suppress(TransformError):
                assert same(buffer.lookup("a", "b", SECOND), torch.eye(4).double())

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(write, child) for child in ("a", "b")]
        wait(writers)
        ended.set()
        for writer in writers:
            writer.result()
        for reader in readers:
            reader.result()
    assert same(buffer.lookup("a", "b", 2 * SECOND), torch.eye(4).double())


def odometry(map_from_base: Tensor, stamp: int, child: str = "base_link") -> Odometry:
    message = Odometry(child_frame_id=child)
    message.header.frame_id, message.header.stamp = "odom", time_message(stamp)
    message.pose.pose = pose_message(map_from_base)
    return message


def test_odometry_is_a_transform(buffer: TransformBuffer) -> None:
    odometry_into(buffer, odometry(A, 5))
    assert same(buffer.lookup("odom", "base_link", 5), A)


def test_odometry_without_meaning_is_refused(buffer: TransformBuffer) -> None:
    diverged = odometry(A, 5)
    diverged.pose.pose.position.y = math.nan
    with pytest.raises(
        InputError, match="'base_link' to 'odom' is .*nan.* expected finite numbers"
    ):
        odometry_into(buffer, diverged)
    with pytest.raises(InputError, match="from '' to 'odom'; expected two different frames"):
        odometry_into(buffer, odometry(A, 5, child=""))


@pytest.fixture
def other_node(ros_context: Context) -> Node:
    """A node in a context, and so a DDS participant, of its own; it only publishes."""
    context = Context()
    rclpy.init(args=[], context=context)
    node = Node("broadcaster", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def test_transforms_arrive_over_dds(node: Node, other_node: Node) -> None:
    buffer = TransformBuffer()
    listener = TransformListener(node, buffer)
    broadcaster = TransformBroadcaster(other_node)
    StaticTransformBroadcaster(other_node).send("base", "camera", 0, C)
    wait_for(lambda: other_node.count_subscribers("/tf"), "the listener to be found")
    stamp = 1_700_000_000 * SECOND

    def arrived() -> bool:
        broadcaster.send("odom", "base", stamp, A)
        broadcaster.send("odom", "base", stamp + SECOND, B)
        return buffer.parent_of("base") == "odom"

    wait_for(arrived, "a transform on /tf")
    assert same(buffer.lookup("odom", "camera", stamp, timeout_s=PATIENCE_S), A @ C)
    assert same(buffer.lookup("odom", "camera", stamp + SECOND, timeout_s=PATIENCE_S), B @ C)
    listener.destroy()
    wait_for(lambda: other_node.count_subscribers("/tf") == 0, "the listener to be gone")


def test_late_listener_gets_every_static_transform(node: Node, other_node: Node) -> None:
    first, second = StaticTransformBroadcaster(other_node), StaticTransformBroadcaster(other_node)
    first.send("base", "camera", 0, A)
    first.send("base", "lidar", 0, B)
    first.send("base", "camera", 0, C)
    second.send("base", "antenna", 0, A)
    buffer = TransformBuffer()
    TransformListener(node, buffer)
    for child, expected in (("camera", C), ("lidar", B), ("antenna", A)):
        assert same(buffer.lookup("base", child, 123, timeout_s=PATIENCE_S), expected)


def test_what_an_odometry_topic_tells_is_not_mixed_with_tf(
    node: Node, executor: MultiThreadedExecutor
) -> None:
    buffer = TransformBuffer()
    listener = TransformListener(node, buffer)
    listener.leave_out("base")
    broadcaster = TransformBroadcaster(node)
    wait_for(lambda: node.count_subscribers("/tf"), "the listener to be found")
    for child in ("base", "lidar"):
        broadcaster.send("odom", child, SECOND, A)
    wait_for(lambda: buffer.parent_of("lidar") == "odom", "a transform on /tf")
    assert buffer.parent_of("base") is None
    listener.destroy()


def test_listener_leaves_out_what_cannot_be_used_and_goes_on(
    node: Node, executor: MultiThreadedExecutor
) -> None:
    buffer = TransformBuffer()
    TransformListener(node, buffer)
    publisher = node.create_publisher(TFMessage, "/tf", TF)
    broken, good = TransformStamped(child_frame_id="base"), TransformStamped(child_frame_id="lidar")
    broken.header.frame_id = good.header.frame_id = "odom"
    broken.transform = Transform()
    broken.transform.translation.x = math.nan
    good.transform = transform_from_pose(A)

    def arrived() -> bool:
        publisher.publish(TFMessage(transforms=[broken, good]))
        return buffer.parent_of("lidar") == "odom"

    wait_for(arrived, "the good transform")
    assert buffer.parent_of("base") is None
    np.testing.assert_allclose(buffer.lookup("odom", "lidar", 0), A, atol=1e-9)
