"""What the localizer says about where the robot is: the pose, the transform, and which of them it withholds and why."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from torch import Tensor

from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.nodes.camera_input import CameraFrame, CameraInput
from vggt3_ros.nodes.conversions import header, pose_covariance, pose_message
from vggt3_ros.nodes.transforms import TransformBroadcaster, TransformError
from vggt3_ros.pipeline.tracking import Tracked


@dataclass(frozen=True, eq=False)
class _Correction:
    """map_from_odom (4, 4) as of an image's stamp, and the node's time at that moment, both in nanoseconds."""

    map_from_odom: Tensor
    stamp_ns: int
    told_ns: int


class PoseOutput:
    """Publishes poses and transforms.

    The correction map -> odom holds until the next one: `repeat_transform` says so again, since whoever asks for the
    transform of this moment must find one, however long an attempt takes, and when no image comes at all.

    Of a scene without a scale, the pose is that of the camera, whose place on a robot is known in metres only.
    """

    def __init__(self, node: Node, settings: SimpleNamespace) -> None:
        self._node, self._settings = node, settings
        self._publisher = node.create_publisher(PoseWithCovarianceStamped, "pose", 10)
        self._broadcaster = TransformBroadcaster(node)
        self._lock = threading.Lock()  # attempts and repetitions are of two threads
        self.forget()

    def forget(self) -> None:
        """Repeat no transform any more: it is of another scene, or of a clock that was set back."""
        with self._lock:
            self._correction: _Correction | None = None
            self._ahead_ns = 0

    def destroy(self) -> None:
        """Publish no more."""
        self._node.destroy_publisher(self._publisher)
        self._broadcaster.destroy()

    def child_frame(self, seen: CameraFrame, metric: bool) -> str:
        """The frame whose pose is published."""
        return self._settings.base_frame if self._settings.base_frame and metric else seen.camera_frame

    def cam_from_child(self, camera: CameraInput, seen: CameraFrame, metric: bool) -> Tensor:
        """Where that frame is, as the camera sees it (4, 4). Raises TransformError when nobody knows."""
        if not metric:
            return torch.eye(4, dtype=torch.float64)
        try:
            return se3_inverse(camera.base_from_cam(seen.camera_frame, seen.frame.stamp_ns))
        except TransformError as error:
            raise TransformError(
                f"where the camera is on the robot is unknown ({error}); publish it on /tf_static, set "
                "base_from_camera, or set base_frame to '' for poses of the camera itself"
            ) from error

    def publish_pose(
        self, seen: CameraFrame, map_from_cam: Tensor, covariance: Tensor | None, cam_from_child: Tensor
    ) -> None:
        """The pose, with the stamp of the image. covariance: see Localization; None for unknown."""
        message = PoseWithCovarianceStamped(header=header(self._settings.map_frame, seen.frame.stamp_ns))
        message.pose.pose = pose_message(map_from_cam @ cam_from_child)
        message.pose.covariance = pose_covariance(covariance, map_from_cam, cam_from_child)
        self._publisher.publish(message)

    def publish_transform(self, camera: CameraInput, seen: CameraFrame, tracked: Tracked, metric: bool) -> str:
        """The transform that tf_mode asks for, as far as there is one. Returns what was published, or why nothing."""
        settings, stamp = self._settings, seen.frame.stamp_ns
        if settings.tf_mode == "none":
            return "nothing, because tf_mode is none"
        if settings.tf_mode == "map_to_camera":
            if tracked.map_from_cam is None:
                return "nothing: there is no pose now"
            if not metric and not settings.unmetric_tf:
                return "nothing: the scene has no scale, and unmetric_tf is false"
            parent = camera.buffer.parent_of(seen.camera_frame)
            if parent not in (None, settings.map_frame):
                return f"nothing: {seen.camera_frame!r} hangs from {parent!r} already; use tf_mode map_to_odom"
            self._broadcaster.send(settings.map_frame, seen.camera_frame, stamp, tracked.map_from_cam)
            return f"{settings.map_frame} -> {seen.camera_frame}"
        if not metric:
            return "nothing: the scene has no scale, and odometry is in metres"
        if tracked.map_from_odom is None:
            return f"nothing: {seen.odometry_problem or 'no pose was confirmed yet'}"
        with self._lock:
            now = self._node.get_clock().now().nanoseconds
            self._correction = _Correction(tracked.map_from_odom, stamp, now)
        self.repeat_transform()
        return f"{settings.map_frame} -> {settings.odom_frame}" + ("" if tracked.publish else ", frozen")

    def repeat_transform(self) -> None:
        """Send the newest map -> odom, dated as if an image came now, and `transform_tolerance` ahead of it."""
        settings = self._settings
        with self._lock:
            held = self._correction
            if held is None:
                return
            passed = max(0, self._node.get_clock().now().nanoseconds - held.told_ns)
            ahead = held.stamp_ns + passed + int(1e9 * settings.transform_tolerance)
            self._ahead_ns = max(self._ahead_ns, ahead)
            self._broadcaster.send(settings.map_frame, settings.odom_frame, self._ahead_ns, held.map_from_odom)
