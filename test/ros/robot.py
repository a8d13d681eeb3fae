"""A robot's sensors in a test's hands: every image, transform and stamp is published when and as
the test says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_angle, se3, se3_inverse
from vggt3_ros.msg import LocalizationStatus, MapperStatus
from vggt3_ros.nodes.messages.conversions import header, pose_from_message, stamp_ns
from vggt3_ros.nodes.messages.images import image_message
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS, image_qos
from vggt3_ros.nodes.messages.transforms import StaticTransformBroadcaster, TransformBroadcaster
from vggt3_ros.worlds.sequence import RoomSequence

from .processes import wait_for

CAMERA = "camera_optical"
# Camera 10 cm before and 20 cm above base_link, looking ahead: optical axes are right, down, ahead.
BASE_FROM_CAM = se3(
    torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64),
    torch.tensor([0.1, 0.0, 0.2], dtype=torch.float64),
)


class Robot:
    """Shows the images of a recorded visit, with odometry odom -> base_link that the test may
    displace.

    odom_from_map: what odometry makes of the truth; identity until a test changes it.
    """

    def __init__(self, node: Node, visit: RoomSequence) -> None:
        self.node, self.visit = node, visit
        self.odom_from_map = torch.eye(4, dtype=torch.float64)
        self.shown = 0
        self._last_stamp = 0
        qos = image_qos("reliable")
        self._images = node.create_publisher(Image, "image", qos)
        self._infos = node.create_publisher(CameraInfo, "camera_info", qos)
        self._moving = TransformBroadcaster(node)
        self._fixed = StaticTransformBroadcaster(node)
        self._fixed.send("base_link", CAMERA, 0, BASE_FROM_CAM)

    def now(self) -> int:
        """A stamp (ns) of this moment, newer than all before."""
        self._last_stamp = max(
            self.node.get_clock().now().nanoseconds, self._last_stamp + 1_000_000
        )
        return self._last_stamp

    def show(
        self,
        index: int,
        stamp: int | None = None,
        image: NDArray[np.uint8] | None = None,
        odometry: bool = True,
        change: Callable[[Image], None] | None = None,
    ) -> int:
        """Publish image `index` of the visit (or another one in its place) with all that belongs to
        it.
        """
        stamp = self.now() if stamp is None else stamp
        if odometry:
            odom_from_base = (
                self.odom_from_map @ self.visit.world_from_cam[index] @ se3_inverse(BASE_FROM_CAM)
            )
            self._moving.send("odom", "base_link", stamp, odom_from_base)
        message = image_message(self.visit.images[index] if image is None else image, CAMERA, stamp)
        if change is not None:
            change(message)
        self._infos.publish(self.info(message.height, message.width, stamp))
        self._images.publish(message)
        self.shown += 1
        return stamp

    def drive(self, indices: Sequence[int], rate: float = 10.0, **options: Any) -> list[int]:
        """Show images one after the other, `rate` per second; returns their stamps."""
        stamps = []
        for index in indices:
            stamps.append(self.show(index, **options))
            time.sleep(1 / rate)
        return stamps

    def info(self, height: int, width: int, stamp: int) -> CameraInfo:
        """Calibration of the visit's camera, for images of that size."""
        message = CameraInfo(
            header=header(CAMERA, stamp), height=height, width=width, distortion_model="plumb_bob"
        )
        scaled = self.visit.intrinsics.clone()
        scale = width / self.visit.images.shape[2]
        scaled[:2] *= scale
        scaled[:2, 2] += 0.5 * (scale - 1)  # pixels count from the centre of the first
        message.k = scaled.flatten().tolist()
        message.d = [0.0] * 5
        return message

    def calibrate(self) -> None:
        """Tell the calibration before the first image: one that comes with it may be later on a
        busy machine.
        """
        height, width = self.visit.images.shape[1:3]
        for _ in range(5):
            self._infos.publish(self.info(height, width, self.now()))
            time.sleep(0.1)

    def true_pose(self, index: int) -> Tensor:
        """map_from_base (4, 4) of an image."""
        return self.visit.world_from_cam[index] @ se3_inverse(BASE_FROM_CAM)

    def destroy(self) -> None:
        """Publish no more."""
        for publisher in (self._images, self._infos):
            self.node.destroy_publisher(publisher)
        self._moving.destroy()
        self._fixed.destroy()

    def wait_until_connected(self, images: int = 1) -> None:
        """Until so many nodes listen to the camera and to odometry."""
        wait_for(
            lambda: self._images.get_subscription_count() >= images,
            f"{images} subscribers of the camera",
        )
        wait_for(
            lambda: self._infos.get_subscription_count() >= images, "subscribers of camera_info"
        )
        wait_for(
            lambda: self._moving._publisher.get_subscription_count() >= images, "subscribers of /tf"
        )
        time.sleep(0.5)  # the other side may learn of the match a moment later


class Heard:
    """What the nodes said: poses by stamp, and every status."""

    def __init__(self, node: Node) -> None:
        self._lock = threading.Lock()
        self.poses: dict[int, PoseWithCovarianceStamped] = {}
        self.localizer: list[LocalizationStatus] = []
        self.mapper: list[MapperStatus] = []
        node.create_subscription(PoseWithCovarianceStamped, "pose", self._on_pose, 100)
        node.create_subscription(
            LocalizationStatus, "localizer/status", self.localizer.append, STATUS
        )
        node.create_subscription(MapperStatus, "mapper/status", self.mapper.append, STATUS)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        self.poses[stamp_ns(message.header.stamp)] = message

    def status_of(self, stamp: int) -> LocalizationStatus:
        """The localizer's status of the image with this stamp; waits for it."""

        def find() -> LocalizationStatus | None:
            return next(
                (s for s in tuple(self.localizer) if stamp_ns(s.header.stamp) == stamp), None
            )

        return wait_for(find, "the localizer's status of an image")

    def mapper_says(self, what: Callable[[MapperStatus], bool], description: str) -> MapperStatus:
        """The newest status of the mapper, once it is as wanted."""
        return wait_for(
            lambda: self.mapper[-1] if self.mapper and what(self.mapper[-1]) else None,
            description,
        )

    def error(self, stamp: int, true_pose: Tensor) -> tuple[float, float]:
        """Metres and degrees between the pose of a stamp and the truth."""
        pose = pose_from_message(self.poses[stamp].pose.pose)
        turned = rotation_angle(pose[:3, :3].T @ true_pose[:3, :3])
        return float((pose[:3, 3] - true_pose[:3, 3]).norm()), float(torch.rad2deg(turned))


def latched(node: Node, kind: type, topic: str) -> list[Any]:
    """What a subscriber that comes now gets of a latched topic, as it arrives."""
    messages: list[Any] = []
    node.create_subscription(kind, topic, messages.append, LATCHED)
    return messages
