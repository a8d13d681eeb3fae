"""The topics of a camera and of what tells where it is: the newest messages of each, and what does
not come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.camera.awaited import Awaited
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.lost_messages import create_counted_subscription
from vggt3_ros.nodes.camera.parameters import CameraParameters
from vggt3_ros.nodes.camera.topic_names import image_topic, info_topic, is_rectified
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.nodes.messages.qos import ODOMETRY, image_qos
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformListener, odometry_into
from vggt3_ros.nodes.runtime.listening import UNKNOWN_NODE, publishers_of
from vggt3_ros.nodes.runtime.subscriptions import AdaptiveSubscription

ImageMessage: TypeAlias = Image | CompressedImage
_DEPTHS = 30  # images kept until the image of their stamp comes
_LOOK = 1.0  # seconds between looks at whether something comes
_OTHER_TRANSPORT = {
    "raw": {"sensor_msgs/msg/CompressedImage": "set image_transport to compressed"},
    "compressed": {"sensor_msgs/msg/Image": "set image_transport to raw"},
}
_RAW_DEPTH = {
    "sensor_msgs/msg/CompressedImage": (
        "remap depth to the raw depth images (image_transport republish makes them of "
        "compressedDepth)"
    )
}


class CameraTopics:
    """Subscribes to a camera, TF and odometry. Every image goes to `on_image` as it comes, in the
    executor's thread.

    `counts` counts the images that came and those that were lost in transit. Transforms
    and odometry go to `buffer`. info: the newest calibration, None before the first. depths: the
    newest depth images, none unless they are asked for. What is needed and does not come is logged;
    see `problem`.
    """

    def __init__(
        self,
        node: Node,
        settings: CameraParameters,
        counts: ImageCounts,
        on_image: Callable[[ImageMessage], None],
        buffer: TransformBuffer,
        use_depth: bool,
    ) -> None:
        self.info: CameraInfo | None = None
        self.depths: deque[Image] = deque(maxlen=_DEPTHS)
        self._node = node
        self._counts = counts
        self._buffer = buffer
        self._pass_on = on_image
        self._others: list[AdaptiveSubscription] = []
        self._cameras: set[str] = set()  # nodes that were seen to publish images
        self._listen_to_images(settings)
        self._listen_to_calibrations(settings)
        self._awaited = [self._image]
        if settings.require_calibration:
            self._awaited.append(self._calibration)
        if use_depth:
            self._listen_to_depth(settings)
            self._awaited.append(self._depth)
        if settings.odometry_source == "topic":
            self._listen_to_odometry()
            self._awaited.append(self._odometry)
        self._listener = TransformListener(node, buffer)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation is silent too
        self._timer = node.create_timer(_LOOK, self._look, clock=steady)

    def destroy(self) -> None:
        """Unsubscribe from all topics, and look for publishers no more."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._images)
        for each in self._others:
            each.destroy()
        self._listener.destroy()

    @property
    def problem(self) -> str:
        """What is needed and does not come, and why; empty while everything does."""
        return next((each.problem for each in self._awaited if each.problem), "")

    def _listen_to_images(self, settings: CameraParameters) -> None:
        transport = settings.image_transport
        profile = image_qos(settings.image_qos)
        topic = image_topic(self._node, transport)
        if is_rectified(topic) and not settings.rectified:
            self._node.get_logger().warning(
                f"the images of {topic} are rectified, as its name says, but the parameter"
                " rectified is false: they are taken for raw ones, with K and D of camera_info;"
                " set rectified to true"
            )
        kind = CompressedImage if transport == "compressed" else Image
        self._images = create_counted_subscription(
            self._node, kind, topic, self._on_image, profile, self._counts.lost_in_transit
        )
        self._image = Awaited(
            self._node, "image", topic, kind, profile, _OTHER_TRANSPORT[transport]
        )

    def _listen_to_calibrations(self, settings: CameraParameters) -> None:
        topic = info_topic(self._node, settings.image_transport)
        self._calibration = Awaited(
            self._node, "camera_info", topic, CameraInfo, None, {}, once=True
        )
        self._hear(CameraInfo, topic, self._on_info, image_qos(settings.image_qos))

    def _listen_to_depth(self, settings: CameraParameters) -> None:
        topic = self._node.resolve_topic_name("depth")
        self._depth = Awaited(self._node, "depth", topic, Image, None, _RAW_DEPTH)
        self._hear(Image, topic, self._on_depth, image_qos(settings.image_qos))

    def _listen_to_odometry(self) -> None:
        topic = self._node.resolve_topic_name("odom")
        self._odometry = Awaited(self._node, "odom", topic, Odometry, None, {})
        self._hear(Odometry, topic, self._on_odometry, ODOMETRY)

    def _hear(
        self, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile
    ) -> None:
        self._others.append(AdaptiveSubscription(self._node, kind, topic, callback, profile))

    def _look(self) -> None:
        for each in self._awaited:
            each.look()
        self._look_for_a_second_camera()

    def _look_for_a_second_camera(self) -> None:
        """Its images would be mixed up with those of the first, and have the wrong calibration."""
        topic = self._images.topic_name
        cameras = set(publishers_of(self._node, topic))
        if any(UNKNOWN_NODE in name for name in cameras):
            return  # found, but not introduced yet: it would be warned of under two names
        if len(cameras) > 1 and cameras != self._cameras:
            self._node.get_logger().warning(
                f"{topic} is published by {len(cameras)} nodes, {' and '.join(sorted(cameras))}:"
                " images of several cameras are taken for those of one; give each camera a topic,"
                " and each a node, of its own"
            )
        self._cameras = cameras

    def _on_image(self, message: ImageMessage) -> None:
        self._image.came()
        self._counts.receive(stamp_ns(message.header.stamp))
        self._pass_on(message)

    def _on_info(self, message: CameraInfo) -> None:
        self._calibration.came()
        self.info = message

    def _on_depth(self, message: Image) -> None:
        self._depth.came()
        self.depths.append(message)

    def _on_odometry(self, message: Odometry) -> None:
        self._odometry.came()
        self._listener.leave_out(message.child_frame_id)
        try:
            odometry_into(self._buffer, message)
        except InputError as error:
            self._node.get_logger().warning(
                f"odometry is ignored: {error}", throttle_duration_sec=5.0
            )
