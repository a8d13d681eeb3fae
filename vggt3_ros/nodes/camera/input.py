"""A camera and what tells where it is: images as they come, and frames made of them in a worker's
thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from torch import Tensor

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import rotation_from_quaternion, se3
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.parameters import CameraParameters
from vggt3_ros.nodes.camera.topics import CameraTopics, ImageMessage
from vggt3_ros.nodes.messages.bridge import find_bridge
from vggt3_ros.nodes.messages.camera_info import camera_from_info
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.nodes.messages.images import (
    depth_from_message,
    image_from_compressed,
    image_from_message,
)
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformError
from vggt3_ros.nodes.runtime.frame_names import frame_name
from vggt3_ros.pipeline.bit_depth import BitDepth
from vggt3_ros.pipeline.frame import Frame

_POLL = 0.01  # seconds
# images that wait in vain for odometry or depth, until only every fifth does: there seems to be
# none
_PATIENCE = 5
_THROTTLE = 10.0  # seconds between messages of the same kind in the log
_GIVEN_CAMERA = "camera as given by the parameter base_from_camera"  # no frame of TF is called that


class UnusableError(Vggt3Error):
    """An image that no frame can be made of; the text says why, `kind` in two or three words, for
    counting.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """A frame, and where odometry has its camera.

    camera_frame: TF frame of the camera's optical axes. odom_from_cam (4, 4), None where unknown:
    odometry_problem says why. The frame's prior pose is left out: what it means is up to the node.
    """

    frame: Frame
    camera_frame: str
    odom_from_cam: Tensor | None
    odometry_problem: str


class CameraInput:
    """Makes frames of the images that CameraTopics passes on, with all that belongs to them.

    settings(): those of this moment. counts, on_image: see CameraTopics. `on_clock_reset()` is
    called from `frame` when stamps jump back. depth_slop(): seconds that stamps of depth images may
    be apart from their images'; without it, there is no depth.
    """

    def __init__(
        self,
        node: Node,
        settings: Callable[[], CameraParameters],
        counts: ImageCounts,
        on_image: Callable[[ImageMessage], None],
        on_clock_reset: Callable[[], None],
        depth_slop: Callable[[], float] | None = None,
    ) -> None:
        self._node = node
        self._settings = settings
        self._on_clock_reset = on_clock_reset
        self._depth_slop = depth_slop
        self._last_stamp_ns: int | None = None
        self._misses = self._depth_misses = 0  # images in a row without odometry, without depth
        given = settings()
        self._bit_depth = BitDepth(given.bit_depth)
        bridge = find_bridge()  # takes a second, in which no image should come
        log = node.get_logger()
        (log.warning if bridge.is_broken else log.info)(str(bridge))
        self.buffer = TransformBuffer()
        if given.base_from_camera:
            numbers = torch.tensor(given.base_from_camera, dtype=torch.float64)
            base_from_camera = se3(rotation_from_quaternion(numbers[3:]), numbers[:3])
            self.buffer.add(given.base_frame, _GIVEN_CAMERA, 0, base_from_camera, static=True)
        self._topics = CameraTopics(
            node, given, counts, on_image, self.buffer, use_depth=depth_slop is not None
        )

    def destroy(self) -> None:
        """Unsubscribe from all topics of the camera; `frame` must not be called any more."""
        self._topics.destroy()

    @property
    def problem(self) -> str:
        """What is needed and does not come, and why; empty while everything does."""
        return self._topics.problem

    def frame(self, message: ImageMessage) -> CameraFrame:
        """The frame of an image, once odometry of its stamp is there or the time for it is up; for
        worker threads.

        Raises UnusableError for images without stamp or calibration, stamps that run backwards,
        unknown encodings, damaged data.
        """
        stamp = stamp_ns(message.header.stamp)
        self._check_stamp(stamp)
        camera_frame = self._settings().camera_frame or frame_name(message.header.frame_id)
        if not camera_frame:
            why = "the image has no frame_id; set one in the camera driver, or camera_frame here"
            raise UnusableError("no frame_id", why)
        try:
            image = self._image(message)
            intrinsics, distortion = self._calibration((image.shape[0], image.shape[1]))
            odom_from_cam, problem = self._odometry(camera_frame, stamp)
            depth = self._depth(stamp, (image.shape[0], image.shape[1]))
            frame = Frame(image, stamp, intrinsics, distortion, None, depth, f"{stamp / 1e9:.3f}")
        except InputError as error:
            raise UnusableError("unusable image", str(error)) from error
        return CameraFrame(frame, camera_frame, odom_from_cam, problem)

    def _image(self, message: ImageMessage) -> NDArray[np.uint8]:
        """Its pixels. Says so when the images turn out to have more bits than those before."""
        before = self._bit_depth.bits
        if isinstance(message, CompressedImage):
            image = image_from_compressed(message, self._bit_depth)
        else:
            image = image_from_message(message, self._bit_depth)
        bits = self._bit_depth.bits
        if bits != before:
            self._node.get_logger().info(
                f"images have {bits} bits, so far: set bit_depth if they can have more"
            )
        return image

    def base_from_cam(self, camera_frame: str, stamp: int) -> Tensor:
        """Where the camera is on the robot (4, 4); the identity where there is no robot. Raises
        TransformError.
        """
        base_frame = self._settings().base_frame
        if not base_frame:
            return torch.eye(4, dtype=torch.float64)
        return self.buffer.lookup(base_frame, self._known_as(camera_frame), stamp)

    def _known_as(self, camera_frame: str) -> str:
        """The camera's frame in the buffer: what the parameter says must not be mixed up with what
        TF says.
        """
        return _GIVEN_CAMERA if self._settings().base_from_camera else camera_frame

    def _check_stamp(self, stamp: int) -> None:
        if stamp <= 0:
            raise UnusableError(
                "no stamp", "the image has no stamp; let the camera driver stamp images"
            )
        last = self._last_stamp_ns
        self._last_stamp_ns = stamp
        if last is None or stamp > last:
            return
        if last - stamp > 1e9 * self._settings().clock_jump:
            self.buffer.clear()
            self._on_clock_reset()
            return
        self._last_stamp_ns = last
        behind = (last - stamp) / 1e6
        raise UnusableError(
            "old stamp", f"the stamp lies {behind:.1f} ms before that of the image before"
        )

    def _calibration(self, size_hw: tuple[int, int]) -> tuple[Tensor | None, Distortion | None]:
        info = self._topics.info
        settings = self._settings()
        if info is not None:
            try:
                return camera_from_info(info, size_hw, settings.rectified)
            except InputError as error:
                if settings.require_calibration:
                    raise
                why = f"the network guesses the intrinsics: {error}"
                self._node.get_logger().warning(why, throttle_duration_sec=_THROTTLE)
        elif settings.require_calibration:
            why = "camera_info has not come yet; publish it, or set require_calibration to false"
            raise UnusableError("no calibration", why)
        return None, None

    def _odometry(self, camera_frame: str, stamp: int) -> tuple[Tensor | None, str]:
        settings = self._settings()
        if settings.odometry_source == "none":
            return None, "odometry_source is none"
        patience = self._patience(self._misses)
        try:
            odom_from_cam = self.buffer.lookup(
                settings.odom_frame, self._known_as(camera_frame), stamp, patience
            )
        except TransformError as error:
            self._misses += 1
            why = (
                f"no odometry for an image: {error} (if there is none at all, set odometry_source"
                " to none)"
            )
            self._node.get_logger().warning(why, throttle_duration_sec=_THROTTLE)
            return None, str(error)
        self._misses = 0
        return odom_from_cam, ""

    def _depth(self, stamp: int, size_hw: tuple[int, int]) -> NDArray[np.float32] | None:
        """Depth of the same moment; waits for it as long as for odometry."""
        if self._depth_slop is None:
            return None
        slop = self._depth_slop()
        end = time.monotonic() + self._patience(self._depth_misses)
        while True:
            apart = {
                abs(stamp_ns(each.header.stamp) - stamp) / 1e9: each
                for each in tuple(self._topics.depths)
            }
            nearest = min(apart, default=math.inf)
            if nearest <= slop:
                self._depth_misses = 0
                return _depth_of_size(apart[nearest], size_hw)
            if time.monotonic() >= end:
                break
            time.sleep(_POLL)
        self._depth_misses += 1
        if apart:
            why = (
                f"no depth for an image: the nearest is {nearest:.3f} s apart, expected at most"
                f" {slop:g} (depth_slop)"
            )
            self._node.get_logger().warning(why, throttle_duration_sec=_THROTTLE)
        return None

    def _patience(self, misses: int) -> float:
        """Seconds to wait for what belongs to an image, after so many images in a row had to do
        without.
        """
        return (
            self._settings().transform_timeout
            if misses < _PATIENCE or misses % _PATIENCE == 0
            else 0.0
        )


def _depth_of_size(message: Image, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    depth = depth_from_message(message)
    if depth.shape != size_hw:
        given = f"{depth.shape[1]}x{depth.shape[0]}"
        wanted = f"{size_hw[1]}x{size_hw[0]}"
        why = f"depth is {given}, the image {wanted}; give depth registered to the image"
        raise UnusableError("size of depth", why)
    return depth
