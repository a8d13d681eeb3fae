"""The parameters that mapper and localizer share: the network, the camera and what tells where it
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggt3_ros.nodes.runtime.frame_names import frames_in_conflict
from vggt3_ros.nodes.runtime.network_parameters import NetworkParameters
from vggt3_ros.nodes.runtime.parameters import parameter


@dataclass(frozen=True)
class CameraParameters(NetworkParameters):
    """What both nodes have to know about the camera, and about what tells where it is."""

    image_transport: Literal["raw", "compressed"] = parameter(
        "raw", "subscribe to image or to image/compressed"
    )
    image_qos: Literal["sensor_data", "reliable"] = parameter(
        "sensor_data",
        "quality of service of the image topics; sensor_data is best effort and matches every"
        " publisher",
    )
    bit_depth: int = parameter(
        0,
        "bits of images that have more than 8, which say what white is: 8 to 16; 0: the highest bit"
        " seen since the node was activated",
        0,
        16,
        form="bits",
    )
    require_calibration: bool = parameter(
        True,
        "leave out images until camera_info has come; otherwise the network guesses the intrinsics"
        " of those that have none",
        live=True,
    )
    rectified: bool = parameter(
        False, "the images are rectified (image_proc): P of camera_info counts, K and D do not"
    )
    camera_frame: str = parameter(
        "", "optical frame of the camera; empty: the frame_id of the images", form="frame or none"
    )
    map_frame: str = parameter("map", "frame of maps and poses (REP-105)", form="frame")
    odom_frame: str = parameter("odom", "frame of the odometry (REP-105)", form="frame")
    base_frame: str = parameter(
        "base_link",
        "frame of the robot; empty: there is none but the camera's optical frame",
        form="frame or none",
    )
    base_from_camera: tuple[float, ...] = parameter(
        (),
        "where the camera's optical frame is on the robot: x y z (m) and quaternion x y z w; empty:"
        " TF tells",
        form="pose",
    )
    odometry_source: Literal["tf", "topic", "none"] = parameter(
        "tf", "where poses of the camera in odom_frame come from: TF, the topic odom, or nowhere"
    )
    transform_timeout: float = parameter(
        0.2, "seconds to wait for the odometry of an image's stamp", 0.0, 5.0, live=True
    )
    clock_jump: float = parameter(
        2.0, "seconds that stamps may run backwards; beyond it the clock was reset", 0.01, 3600.0
    )
    status_rate: float = parameter(2.0, "status messages per second at least", 0.1, 50.0)

    def contradictions(self) -> list[str]:
        """Frames that must differ; a mount on no robot."""
        wrong = frames_in_conflict(vars(self))
        if self.base_from_camera and not self.base_frame:
            wrong.append(
                "base_from_camera is given, but base_frame is empty; name the robot's frame"
            )
        return wrong
