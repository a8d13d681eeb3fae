"""The parameters of the simulated camera."""

from __future__ import annotations

from dataclasses import dataclass

from vggt3_ros.nodes.runtime.frame_names import frames_in_conflict
from vggt3_ros.nodes.runtime.parameters import NodeParameters, parameter


@dataclass(frozen=True)
class SimCameraParameters(NodeParameters):
    """Room and drive, lens and noise, odometry and its errors."""

    seed: int = parameter(
        1, "room to drive through; the same number is always the same room and path", 0, 2**53
    )
    width: int = parameter(320, "width of the images in pixels", 16, 4096)
    height: int = parameter(240, "height of the images in pixels", 16, 4096)
    field_of_view: float = parameter(
        1.2, "horizontal field of view in radians, of the lens without distortion", 0.2, 2.6
    )
    distortion: tuple[float, ...] = parameter(
        (), "plumb_bob distortion of the lens: k1 k2 p1 p2 k3; empty: none"
    )
    supersample: int = parameter(
        2, "rays per pixel in each direction; 1 is four times as fast, with jagged edges", 1, 8
    )
    rate: float = parameter(10.0, "images per second", 0.1, 120.0)
    length: float = parameter(
        6.0, "metres of the mapping drive, about; a cramped room gives a shorter one", 0.2, 100.0
    )
    speed: float = parameter(0.4, "metres per second", 0.01, 10.0)
    turn_speed: float = parameter(
        0.6, "radians per second at most, for which the camera slows down", 0.01, 10.0
    )
    noise: float = parameter(1.5, "standard deviation of the noise of a pixel, of 255", 0.0, 100.0)
    wait_to_start: bool = parameter(False, "stand at the start of leg 0 until next_leg is called")
    wait_between_legs: bool = parameter(
        True, "stand at the end of a leg until next_leg is called; otherwise go on at once"
    )
    loop: bool = parameter(
        False, "drive the last leg to and fro for ever; otherwise stand at its end"
    )
    compressed: bool = parameter(False, "publish image/compressed (JPEG) as well")
    publish_tf: bool = parameter(
        True, "publish odom_frame -> base_frame on /tf; the topic odom has it in any case"
    )
    odom_scale_error: float = parameter(
        0.0, "metres that odometry measures too much per metre", -0.9, 10.0
    )
    odom_turn_error: float = parameter(
        0.0, "radians that odometry turns too far to the left per metre", -10.0, 10.0
    )
    map_frame: str = parameter(
        "map", "frame of the true poses; odom_frame lies there until odometry drifts", form="frame"
    )
    odom_frame: str = parameter("odom", "frame of the odometry", form="frame")
    base_frame: str = parameter("base_link", "frame of the robot", form="frame")
    camera_frame: str = parameter("camera_optical", "optical frame of the camera", form="frame")
    publish_images: bool = parameter(True, "false stops the images, not the odometry", live=True)
    cover_lens: bool = parameter(False, "true makes the images black", live=True)

    def contradictions(self) -> list[str]:
        """Frames that must differ."""
        return frames_in_conflict(vars(self))
