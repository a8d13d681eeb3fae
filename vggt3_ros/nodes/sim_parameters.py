"""The parameters of the simulated camera."""

from __future__ import annotations

from vggt3_ros.nodes.parameters import Parameter

SIM_CAMERA = (
    Parameter("seed", 1, "room to drive through; the same number is always the same room and path", 0, 2**53),
    Parameter("width", 320, "width of the images in pixels", 16, 4096),
    Parameter("height", 240, "height of the images in pixels", 16, 4096),
    Parameter("field_of_view", 1.2, "horizontal field of view in radians, of the lens without distortion", 0.2, 2.6),
    Parameter("distortion", (), "plumb_bob distortion of the lens: k1 k2 p1 p2 k3; empty: none"),
    Parameter("supersample", 2, "rays per pixel in each direction; 1 is four times as fast, with jagged edges", 1, 8),
    Parameter("rate", 10.0, "images per second", 0.1, 120.0),
    Parameter("length", 6.0, "metres of the mapping drive, about; a cramped room gives a shorter one", 0.2, 100.0),
    Parameter("speed", 0.4, "metres per second", 0.01, 10.0),
    Parameter("turn_speed", 0.6, "radians per second at most, for which the camera slows down", 0.01, 10.0),
    Parameter("noise", 1.5, "standard deviation of the noise of a pixel, of 255", 0.0, 100.0),
    Parameter("wait_to_start", False, "stand at the start of leg 0 until next_leg is called"),
    Parameter("wait_between_legs", True, "stand at the end of a leg until next_leg is called; otherwise go on at once"),
    Parameter("loop", False, "drive the last leg to and fro for ever; otherwise stand at its end"),
    Parameter("compressed", False, "publish image/compressed (JPEG) as well"),
    Parameter("publish_tf", True, "publish odom_frame -> base_frame on /tf; the topic odom has it in any case"),
    Parameter("odom_scale_error", 0.0, "metres that odometry measures too much per metre", -0.9, 10.0),
    Parameter("odom_turn_error", 0.0, "radians that odometry turns too far to the left per metre", -10.0, 10.0),
    Parameter("map_frame", "map", "frame of the true poses; odom_frame lies there until odometry drifts", form="frame"),
    Parameter("odom_frame", "odom", "frame of the odometry", form="frame"),
    Parameter("base_frame", "base_link", "frame of the robot", form="frame"),
    Parameter("camera_frame", "camera_optical", "optical frame of the camera", form="frame"),
    Parameter("publish_images", True, "false stops the images, not the odometry"),
    Parameter("cover_lens", False, "true makes the images black"),
)
