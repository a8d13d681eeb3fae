"""A camera and what tells where it is: images as they come, and frames made of them in a worker's thread."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeAlias

import numpy as np
import torch
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from torch import Tensor

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import rotation_from_quaternion, se3
from vggt3_ros.nodes.camera_info import camera_from_info
from vggt3_ros.nodes.conversions import stamp_ns
from vggt3_ros.nodes.frames import frame_name
from vggt3_ros.nodes.images import depth_from_message, image_from_compressed, image_from_message
from vggt3_ros.nodes.qos import image_qos
from vggt3_ros.nodes.transforms import TransformBuffer, TransformError, TransformListener, odometry_into
from vggt3_ros.pipeline.frame import Frame

ImageMessage: TypeAlias = Image | CompressedImage
_DEPTHS = 30  # images kept until the image of their stamp comes
_POLL = 0.01  # seconds
_PATIENCE = 5  # images that wait in vain for odometry or depth, until only every fifth does: there seems to be none
_GIVEN_CAMERA = "camera as given by the parameter base_from_camera"  # no frame of TF is called that


class UnusableError(Vggt3Error):
    """An image that no frame can be made of; the text says why, `kind` in two or three words, for counting."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """A frame, and where odometry has its camera.

    camera_frame: TF frame of the camera's optical axes. odom_from_cam (4, 4), None where unknown: odometry_problem
    says why. The frame's prior pose is left out: what it means is up to the node.
    """

    frame: Frame
    camera_frame: str
    odom_from_cam: Tensor | None
    odometry_problem: str


class Counts:
    """How many images came and how many were left out, for which reasons; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.received = 0
        self.dropped = 0
        self.last_reason = ""
        self.reasons: Counter[str] = Counter()

    def receive(self) -> None:
        """One more came."""
        with self._lock:
            self.received += 1

    def drop(self, reason: str, kind: str | None = None, count: int = 1) -> None:
        """Some were left out. Reasons that hold numbers are counted by their `kind`, of which there are only a few."""
        with self._lock:
            self.dropped += count
            self.last_reason = reason
            self.reasons[kind or reason] += count

    def most_common(self, count: int) -> list[tuple[str, int]]:
        """The most frequent reasons, and how often each occurred."""
        with self._lock:
            return self.reasons.most_common(count)


class CameraInput:
    """Subscribes to a camera, TF and odometry. Every image goes to `on_image` as it comes, in the executor's thread.

    `on_clock_reset()` is called from `frame` when stamps jump back.
    """

    def __init__(
        self,
        node: Node,
        settings: SimpleNamespace,
        on_image: Callable[[ImageMessage], None],
        on_clock_reset: Callable[[], None],
        use_depth: bool = False,
    ) -> None:
        self._node, self._settings = node, settings
        self._on_clock_reset = on_clock_reset
        self._info: CameraInfo | None = None
        self._depths: deque[Image] | None = deque(maxlen=_DEPTHS) if use_depth else None
        self._last_stamp_ns: int | None = None
        self._misses = self._depth_misses = 0  # images in a row without odometry, without depth
        self.buffer = TransformBuffer()
        if settings.base_from_camera:
            numbers = torch.tensor(settings.base_from_camera, dtype=torch.float64)
            base_from_camera = se3(rotation_from_quaternion(numbers[3:]), numbers[:3])
            self.buffer.add(settings.base_frame, _GIVEN_CAMERA, 0, base_from_camera, static=True)
        qos = image_qos(settings.image_qos)
        if settings.image_transport == "compressed":
            image = node.create_subscription(CompressedImage, "image/compressed", on_image, qos)
        else:
            image = node.create_subscription(Image, "image", on_image, qos)
        self._subscriptions = [image, node.create_subscription(CameraInfo, "camera_info", self._on_info, qos)]
        if use_depth:
            self._subscriptions.append(node.create_subscription(Image, "depth", self._on_depth, qos))
        if settings.odometry_source == "topic":
            self._subscriptions.append(node.create_subscription(Odometry, "odom", self._on_odometry, 50))
        self._listener = TransformListener(node, self.buffer)

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._listener.destroy()

    def frame(self, message: ImageMessage) -> CameraFrame:
        """The frame of an image, once odometry of its stamp is there or the time for it is up; for worker threads.

        Raises UnusableError for images without stamp or calibration, stamps that run backwards, unknown encodings,
        damaged data.
        """
        stamp = stamp_ns(message.header.stamp)
        self._check_stamp(stamp)
        camera_frame = self._settings.camera_frame or frame_name(message.header.frame_id)
        if not camera_frame:
            why = "the image has no frame_id; set one in the camera driver, or camera_frame here"
            raise UnusableError("no frame_id", why)
        try:
            if isinstance(message, CompressedImage):
                image = image_from_compressed(message)
            else:
                image = image_from_message(message)
            intrinsics, distortion = self._calibration((image.shape[0], image.shape[1]))
            odom_from_cam, problem = self._odometry(camera_frame, stamp)
            depth = self._depth(stamp, (image.shape[0], image.shape[1]))
            frame = Frame(image, stamp, intrinsics, distortion, None, depth, f"{stamp / 1e9:.3f}")
        except InputError as error:
            raise UnusableError("unusable image", str(error)) from error
        return CameraFrame(frame, camera_frame, odom_from_cam, problem)

    def base_from_cam(self, camera_frame: str, stamp: int) -> Tensor:
        """Where the camera is on the robot (4, 4); the identity where there is no robot. Raises TransformError."""
        if not self._settings.base_frame:
            return torch.eye(4, dtype=torch.float64)
        return self.buffer.lookup(self._settings.base_frame, self._known_as(camera_frame), stamp)

    def _known_as(self, camera_frame: str) -> str:
        """The camera's frame in the buffer: what the parameter says must not be mixed up with what TF says."""
        return _GIVEN_CAMERA if self._settings.base_from_camera else camera_frame

    def _check_stamp(self, stamp: int) -> None:
        if stamp <= 0:
            raise UnusableError("no stamp", "the image has no stamp; let the camera driver stamp images")
        last, self._last_stamp_ns = self._last_stamp_ns, stamp
        if last is None or stamp > last:
            return
        if last - stamp > 1e9 * self._settings.clock_jump:
            self.buffer.clear()
            self._on_clock_reset()
            return
        self._last_stamp_ns = last
        behind = (last - stamp) / 1e6
        raise UnusableError("old stamp", f"the stamp lies {behind:.1f} ms before that of the image before")

    def _calibration(self, size_hw: tuple[int, int]) -> tuple[Tensor | None, Distortion | None]:
        if self._info is not None:
            try:
                return camera_from_info(self._info, size_hw)
            except InputError:
                if self._settings.require_calibration:
                    raise
        elif self._settings.require_calibration:
            why = "camera_info has not come yet; publish it, or set require_calibration to false"
            raise UnusableError("no calibration", why)
        return None, None

    def _odometry(self, camera_frame: str, stamp: int) -> tuple[Tensor | None, str]:
        settings = self._settings
        if settings.odometry_source == "none":
            return None, "odometry_source is none"
        patience = self._patience(self._misses)
        try:
            odom_from_cam = self.buffer.lookup(settings.odom_frame, self._known_as(camera_frame), stamp, patience)
        except TransformError as error:
            self._misses += 1
            return None, str(error)
        self._misses = 0
        return odom_from_cam, ""

    def _depth(self, stamp: int, size_hw: tuple[int, int]) -> NDArray[np.float32] | None:
        """Depth of the same moment; waits for it as long as for odometry."""
        if self._depths is None:
            return None
        end = time.monotonic() + self._patience(self._depth_misses)
        while True:
            for message in tuple(self._depths):
                if abs(stamp_ns(message.header.stamp) - stamp) <= 1e9 * self._settings.depth_slop:
                    depth = depth_from_message(message)
                    if depth.shape != size_hw:
                        given, wanted = f"{depth.shape[1]}x{depth.shape[0]}", f"{size_hw[1]}x{size_hw[0]}"
                        why = f"depth is {given}, the image {wanted}; give depth registered to the image"
                        raise UnusableError("size of depth", why)
                    self._depth_misses = 0
                    return depth
            if time.monotonic() >= end:
                self._depth_misses += 1
                return None
            time.sleep(_POLL)

    def _patience(self, misses: int) -> float:
        """Seconds to wait for what belongs to an image, after so many images in a row had to do without."""
        return self._settings.transform_timeout if misses < _PATIENCE or misses % _PATIENCE == 0 else 0.0

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_depth(self, message: Image) -> None:
        if self._depths is not None:
            self._depths.append(message)

    def _on_odometry(self, message: Odometry) -> None:
        self._listener.leave_out(message.child_frame_id)
        try:
            odometry_into(self.buffer, message)
        except InputError as error:
            self._node.get_logger().warning(f"odometry is ignored: {error}", throttle_duration_sec=5.0)
