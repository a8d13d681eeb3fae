"""The depth of live images, as image_proc and costmaps take it: an image in metres with its
calibration.
"""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.nodes.camera.input import CameraFrame
from vggt3_ros.nodes.messages.conversions import header
from vggt3_ros.nodes.messages.images import byte_array
from vggt3_ros.nodes.messages.qos import STATUS
from vggt3_ros.pipeline.localization import Localization


class DepthOutput:
    """Publishes refined depth (REP-118: 32FC1, metres, NaN where it is not known) and the camera
    that has seen it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._depth = node.create_publisher(Image, "localizer/depth/image_rect", STATUS)
        self._info = node.create_publisher(CameraInfo, "localizer/depth/camera_info", STATUS)

    def destroy(self) -> None:
        """Destroy the publishers of depth and its camera_info."""
        self._node.destroy_publisher(self._depth)
        self._node.destroy_publisher(self._info)

    def publish(self, seen: CameraFrame, answer: Localization) -> None:
        """Depth of an image of a metric map, with its stamp, in its camera's frame; nothing unless
        it was refined.

        What only the network tells (FAR) is not known.
        """
        depth = answer.depth
        how = answer.depth_provenance
        intrinsics = answer.intrinsics
        if depth is None or how is None or intrinsics is None:
            return
        metres = np.where((how == int(Provenance.FAR)).numpy(), np.nan, depth.numpy()).astype(
            np.float32
        )
        height, width = metres.shape
        stamped = header(seen.camera_frame, seen.frame.stamp_ns)
        fx, fy, cx, cy = (
            float(intrinsics[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
        )
        info = CameraInfo(
            header=stamped, height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5
        )
        info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        image = Image(
            header=stamped, height=height, width=width, encoding="32FC1", step=metres.strides[0]
        )
        image.data = byte_array(metres)
        self._depth.publish(image)
        self._info.publish(info)
