"""Transforms over time: a small buffer like tf2's, and what reads and writes /tf and /tf_static.

tf2_ros has no wheel, so this is what is used everywhere; on the wire it is the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial

import torch
from geometry_msgs.msg import Transform, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from torch import Tensor

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.geometry.se3 import check_pose, quaternion_from_rotation, se3_inverse
from vggt3_ros.nodes.messages.conversions import rigid, stamp_ns, time_message, transform_from_pose
from vggt3_ros.nodes.messages.qos import TF, TF_STATIC_IN, TF_STATIC_OUT
from vggt3_ros.nodes.messages.transform_history import Numbers, TransformHistory, in_seconds
from vggt3_ros.nodes.runtime.frame_names import frame_name
from vggt3_ros.nodes.runtime.subscriptions import AdaptiveSubscription

try:
    from tf2_msgs.msg import TFMessage
except ImportError as error:
    raise ImportError(
        "tf2_msgs is missing, so no transforms can be read or written; with apt: sudo apt install "
        "ros-$ROS_DISTRO-tf2-msgs; with pip: pip install 'vggt3_ros[ros-wheels]' builds it"
    ) from error


class TransformError(Vggt3Error):
    """No transform between two frames at a stamp. `final`: waiting for further messages cannot
    help.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class TransformBuffer:
    """The tree of frames over the last `seconds`; every method may be called from any thread.

    Nothing is interpolated across more than `max_gap_s` without data: where a robot was meanwhile,
    nobody knows. watcher(parent, child, stamp_ns, static) is called for every transform that is
    added.
    """

    def __init__(self, seconds: float = 30.0, max_gap_s: float = 1.0) -> None:
        self._kept_ns = round(seconds * 1e9)
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._edges: dict[str, TransformHistory] = {}  # by child
        self._changed = threading.Condition()
        self.watcher: Callable[[str, str, int, bool], None] | None = None

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        parent_from_child: Tensor,
        static: bool = False,
    ) -> None:
        """Add parent_from_child (4, 4) at a stamp. Raises InputError when it is no rigid transform
        or has no frames.
        """
        check_pose(parent_from_child, f"transform from {child!r} to {parent!r}")
        quaternion = quaternion_from_rotation(parent_from_child[:3, :3].double())
        self._insert(
            parent,
            child,
            stamp_ns,
            (*parent_from_child[:3, 3].tolist(), *quaternion.tolist()),
            static,
        )

    def add_message(
        self, parent: str, child: str, stamp_ns: int, transform: Transform, static: bool = False
    ) -> None:
        """Add the numbers of a message. Raises InputError when they are no rigid transform or there
        are no frames.
        """
        t = transform.translation
        q = transform.rotation
        length = math.hypot(q.x, q.y, q.z, q.w)
        numbers = (t.x, t.y, t.z, q.x, q.y, q.z, q.w)
        if not (all(map(math.isfinite, numbers)) and abs(length - 1) < 0.1):
            raise InputError(
                f"transform from {child!r} to {parent!r} is {numbers} (x y z, quaternion x y z w);"
                " expected finite numbers and a quaternion of length 1: check whoever publishes it"
            )
        unit = (q.x / length, q.y / length, q.z / length, q.w / length)
        self._insert(parent, child, stamp_ns, (t.x, t.y, t.z, *unit), static)

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> Tensor:
        """target_from_source (4, 4) float64 at a stamp, interpolated between near neighbours, never
        extrapolated.

        Waits for at most `timeout_s` until it is known; never wait in a callback that keeps
        messages from arriving. Raises TransformError that says which frame or which time is
        missing.
        """
        target = frame_name(target)
        source = frame_name(source)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                try:
                    down, up = self._paths(target, source, stamp_ns)
                    break
                except TransformError as error:
                    remaining = deadline - time.monotonic()
                    if error.final or remaining <= 0:
                        raise
                    self._changed.wait(remaining)
        return se3_inverse(_chained(down)) @ _chained(up)

    def parent_of(self, frame: str) -> str | None:
        """The frame that `frame` is given in; None while nothing is known about it."""
        with self._changed:
            edge = self._edges.get(frame_name(frame))
            return None if edge is None else edge.parent

    def forget(self, frame: str) -> None:
        """Forget where one frame was."""
        with self._changed:
            self._edges.pop(frame_name(frame), None)

    def clear(self) -> None:
        """Forget all but the static transforms, for example when the clock was set back."""
        with self._changed:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def _insert(self, parent: str, child: str, stamp: int, value: Numbers, static: bool) -> None:
        parent = frame_name(parent)
        child = frame_name(child)
        if not parent or not child or parent == child:
            raise InputError(
                f"transform from {child!r} to {parent!r}; expected two different frames with names"
            )
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = TransformHistory(parent, static)
            edge.add(stamp, value, self._kept_ns)
            self._changed.notify_all()
        if self.watcher is not None:
            self.watcher(parent, child, stamp, static)

    def _paths(self, target: str, source: str, stamp: int) -> tuple[list[Numbers], list[Numbers]]:
        """The transforms from target and from source up to the first frame that both hang from."""
        above_target = self._above(target)
        above_source = self._above(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        what = f"there is no transform from {source!r} to {target!r} at {in_seconds(stamp)}"
        if common is None:
            raise TransformError(f"{what}: {self._gap(target, source)}")
        down = above_target[: above_target.index(common)]
        up = above_source[: above_source.index(common)]
        for child in (*down, *up):
            self._check_time(child, stamp, what)
        return [self._edges[child].at(stamp) for child in down], [
            self._edges[child].at(stamp) for child in up
        ]

    def _above(self, frame: str) -> list[str]:
        """The frame, its parent, and so on."""
        frames = [frame]
        while frame in self._edges:
            frame = self._edges[frame].parent
            if frame in frames:
                loop = " in ".join(map(repr, (*frames, frame)))
                raise TransformError(
                    f"the frames form a loop: {loop}; let a single node publish each transform"
                )
            frames.append(frame)
        return frames

    def _gap(self, target: str, source: str) -> str:
        """Why two frames are not connected."""
        known = {*self._edges, *(edge.parent for edge in self._edges.values())}
        unknown = [repr(frame) for frame in (source, target) if frame not in known]
        if unknown:
            return (
                f"{' and '.join(unknown)} never appeared on /tf, /tf_static or as odometry; known"
                f" are {sorted(known) or 'none'}: check the name, and that robot_state_publisher or"
                " the driver runs"
            )
        roots = (
            f"{source!r} hangs from {self._above(source)[-1]!r}, {target!r} from"
            f" {self._above(target)[-1]!r}"
        )
        return f"they are not connected: {roots}; publish the transform between these two"

    def _check_time(self, child: str, stamp: int, what: str) -> None:
        edge = self._edges[child]
        problem = edge.problem(stamp, self._max_gap_ns)
        if problem is not None:
            why, final = problem
            raise TransformError(f"{what}: {child!r} in {edge.parent!r} {why}", final)


class TransformListener:
    """Fills a buffer from /tf and /tf_static. Transforms that cannot be used are left out with a
    warning.
    """

    def __init__(self, node: Node, buffer: TransformBuffer) -> None:
        self._node = node
        self._buffer = buffer
        self._left_out: set[str] = set()
        fixed = partial(self._take, static=True)
        self._moving = node.create_subscription(TFMessage, "/tf", self._take, TF)
        self._fixed = AdaptiveSubscription(node, TFMessage, "/tf_static", fixed, TF_STATIC_IN)

    def leave_out(self, child: str) -> None:
        """Take no more of a frame from /tf, and forget what it said: where the frame is comes from
        elsewhere.
        """
        child = frame_name(child)
        if child not in self._left_out:
            self._left_out.add(child)
            self._buffer.forget(child)

    def destroy(self) -> None:
        """Stop listening; the buffer keeps what it has."""
        self._node.destroy_subscription(self._moving)
        self._fixed.destroy()

    def _take(self, message: TFMessage, static: bool = False) -> None:
        for entry in message.transforms:
            try:
                stamp = stamp_ns(entry.header.stamp)
                parent = entry.header.frame_id
                child = entry.child_frame_id
                if not static and frame_name(child) in self._left_out:
                    continue
                self._buffer.add_message(parent, child, stamp, entry.transform, static)
            except InputError as error:
                self._node.get_logger().warning(f"ignored: {error}", throttle_duration_sec=10.0)


class TransformBroadcaster:
    """Publishes moving transforms on /tf."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(TFMessage, "/tf", TF)

    def send(self, parent: str, child: str, stamp_ns: int, parent_from_child: Tensor) -> None:
        """Publish parent_from_child (4, 4)."""
        self._publisher.publish(
            TFMessage(transforms=[_stamped(parent, child, stamp_ns, parent_from_child)])
        )

    def destroy(self) -> None:
        """Destroy the publisher on /tf."""
        self._node.destroy_publisher(self._publisher)


class StaticTransformBroadcaster:
    """Publishes fixed transforms on /tf_static, all of them in one latched message, for whoever
    comes late.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(TFMessage, "/tf_static", TF_STATIC_OUT)
        self._sent: dict[str, TransformStamped] = {}  # by child

    def send(self, parent: str, child: str, stamp_ns: int, parent_from_child: Tensor) -> None:
        """Publish parent_from_child (4, 4), and again what was sent before for other children."""
        self._sent[child] = _stamped(parent, child, stamp_ns, parent_from_child)
        self._publisher.publish(TFMessage(transforms=list(self._sent.values())))

    def destroy(self) -> None:
        """Destroy the publisher on /tf_static; what it latched is gone with it."""
        self._node.destroy_publisher(self._publisher)


def odometry_into(buffer: TransformBuffer, odometry: Odometry) -> None:
    """Add the pose of an odometry message to a buffer. Raises InputError when it holds NaN or names
    no frames.
    """
    p = odometry.pose.pose.position
    orientation = odometry.pose.pose.orientation
    transform = Transform(rotation=orientation)
    transform.translation.x = p.x
    transform.translation.y = p.y
    transform.translation.z = p.z
    stamp = stamp_ns(odometry.header.stamp)
    buffer.add_message(odometry.header.frame_id, odometry.child_frame_id, stamp, transform)


def _stamped(parent: str, child: str, stamp_ns: int, parent_from_child: Tensor) -> TransformStamped:
    message = TransformStamped(
        child_frame_id=child, transform=transform_from_pose(parent_from_child)
    )
    message.header.frame_id = parent
    message.header.stamp = time_message(stamp_ns)
    return message


def _chained(values: list[Numbers]) -> Tensor:
    """The product (4, 4) of transforms, the first one applied first."""
    product = torch.eye(4, dtype=torch.float64)
    for value in values:
        product = rigid(value[:3], value[3:], "transform") @ product
    return product
