"""What the localizer says about where the robot is: the pose, the transform, and which of them it
withholds and why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.nodes.camera.input import CameraFrame, CameraInput
from vggt3_ros.nodes.localizer.arrival import Arrival, NodeTime
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.rival import Rival
from vggt3_ros.nodes.messages.conversions import header, pose_covariance, pose_message
from vggt3_ros.nodes.messages.transforms import (
    TransformBroadcaster,
    TransformBuffer,
    TransformError,
)
from vggt3_ros.pipeline.tracking import Tracked

_UNWANTED = "nothing, because tf_mode is none"


@dataclass(frozen=True, eq=False)
class _Correction:
    """map_from_odom (4, 4), and the image that it was computed from."""

    map_from_odom: Tensor
    arrival: Arrival


class PoseOutput:
    """Publishes poses and transforms.

    The correction map -> odom holds until the next one: `repeat_transform` says so again, since
    whoever asks for the transform of this moment must find one, however long an attempt takes, and
    when no image comes at all.

    Of a scene without a scale, the pose is that of the camera, whose place on a robot is known in
    metres only. settings(): those of this moment.
    """

    def __init__(
        self, node: Node, settings: Callable[[], LocalizerParameters], time: NodeTime
    ) -> None:
        self._node = node
        self._settings = settings
        self._time = time
        self._publisher = node.create_publisher(PoseWithCovarianceStamped, "pose", 10)
        self._broadcaster = TransformBroadcaster(node)
        self._rival = Rival(node, settings().odom_frame)
        self._lock = threading.Lock()  # attempts and repetitions are of two threads
        self.forget()

    def watch(self, buffer: TransformBuffer) -> None:
        """Warn when the buffer gets another's transform in the place of ours."""
        if self._settings().tf_mode == "map_to_odom":
            buffer.watcher = self._rival.hears

    def forget(self) -> None:
        """Repeat no transform any more: it is of another scene, or of a clock that was set back."""
        with self._lock:
            self._correction: _Correction | None = None
            self._ahead_ns = 0

    def destroy(self) -> None:
        """Destroy the publishers of poses and transforms."""
        self._node.destroy_publisher(self._publisher)
        self._broadcaster.destroy()

    def child_frame(self, seen: CameraFrame, metric: bool) -> str:
        """The frame whose pose is published."""
        base_frame = self._settings().base_frame
        return base_frame if base_frame and metric else seen.camera_frame

    def cam_from_child(self, camera: CameraInput, seen: CameraFrame, metric: bool) -> Tensor:
        """Where that frame is, as the camera sees it (4, 4). Raises TransformError when nobody
        knows.
        """
        if not metric:
            return torch.eye(4, dtype=torch.float64)
        try:
            return se3_inverse(camera.base_from_cam(seen.camera_frame, seen.frame.stamp_ns))
        except TransformError as error:
            raise TransformError(
                f"where the camera is on the robot is unknown ({error}); publish it on /tf_static,"
                " set base_from_camera, or set base_frame to '' for poses of the camera itself"
            ) from error

    def publish_pose(
        self,
        seen: CameraFrame,
        map_from_cam: Tensor,
        covariance: Tensor | None,
        cam_from_child: Tensor,
    ) -> None:
        """The pose, with the stamp of the image. covariance: see Localization; None for unknown."""
        message = PoseWithCovarianceStamped(
            header=header(self._settings().map_frame, seen.frame.stamp_ns)
        )
        message.pose.pose = pose_message(map_from_cam @ cam_from_child)
        message.pose.covariance = pose_covariance(covariance, map_from_cam, cam_from_child)
        self._publisher.publish(message)

    def publish_transform(
        self,
        camera: CameraInput,
        arrival: Arrival,
        seen: CameraFrame,
        tracked: Tracked,
        metric: bool,
    ) -> str:
        """The transform that tf_mode asks for, as far as there is one. Returns what was published,
        or why nothing.
        """
        settings = self._settings()
        if settings.tf_mode == "map_to_odom":
            return self._correct(arrival, seen, tracked, metric)
        if settings.tf_mode == "none":
            return _UNWANTED
        if tracked.map_from_cam is None:
            return "nothing: there is no pose now"
        if not metric and not settings.unmetric_tf:
            return "nothing: the scene has no scale, and unmetric_tf is false"
        parent = camera.buffer.parent_of(seen.camera_frame)
        if parent not in (None, settings.map_frame):
            return (
                f"nothing: {seen.camera_frame!r} hangs from {parent!r} already; use tf_mode"
                " map_to_odom"
            )
        stamp = seen.frame.stamp_ns
        self._broadcaster.send(settings.map_frame, seen.camera_frame, stamp, tracked.map_from_cam)
        return f"{settings.map_frame} -> {seen.camera_frame}"

    def repeat_transform(self) -> None:
        """Send the newest map -> odom, dated as if an image came now, and `transform_tolerance`
        ahead of it.

        Time is counted from when its image came: the attempt may have taken long. Raises InputError
        for a date that no message can hold.
        """
        settings = self._settings()
        with self._lock:
            held = self._correction
            if held is None:
                return
            now = held.arrival.time_ns + self._time.since_ns(held.arrival.moment)
            self._ahead_ns = max(self._ahead_ns, now + int(1e9 * settings.transform_tolerance))
            self._rival.sends(self._ahead_ns)
            self._broadcaster.send(
                settings.map_frame, settings.odom_frame, self._ahead_ns, held.map_from_odom
            )

    def standing(self, reason: str) -> str:
        """What goes on being published although there is no new pose, for the reason given; or that
        nothing is.
        """
        settings = self._settings()
        if settings.tf_mode == "none":
            return _UNWANTED
        with self._lock:
            if self._correction is None:
                return f"nothing: {reason}"
        return f"{settings.map_frame} -> {settings.odom_frame}, frozen: {reason}"

    def _correct(self, arrival: Arrival, seen: CameraFrame, tracked: Tracked, metric: bool) -> str:
        """Publish map -> odom, if there is a new one. Returns what is published, or why nothing
        is.
        """
        if not metric:
            return "nothing: the scene has no scale, and odometry is in metres"
        if tracked.map_from_odom is None:
            return self.standing(seen.odometry_problem or "no pose was confirmed yet")
        with self._lock:
            self._correction = _Correction(tracked.map_from_odom, arrival)
            # of two transforms with the same date, listeners would keep the older one
            self._ahead_ns += 1
        try:
            self.repeat_transform()
        except InputError as error:
            self.forget()
            return f"nothing: {error}"
        if not tracked.publish:
            return self.standing(tracked.reason)
        settings = self._settings()
        return f"{settings.map_frame} -> {settings.odom_frame}"
