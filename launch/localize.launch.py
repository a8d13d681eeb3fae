"""Localizer on a camera, in a stored scene: `ros2 launch vggt3_ros localize.launch.py
scene_dir:=FOLDER`.

`ros2 launch vggt3_ros localize.launch.py --show-args` explains the arguments.
"""

from launch import LaunchDescription

from vggt3_ros.nodes.launching.actions import managed_node, middleware_profile, rviz
from vggt3_ros.nodes.launching.arguments import COMMON, FRAMES, arguments, require_scene

PASSED_ON = (
    "image_topic",
    "image_transport",
    "camera_info_topic",
    "odom_topic",
    "scene_dir",
    "model",
    "device",
)


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return LaunchDescription(
        [
            *arguments(*PASSED_ON, *COMMON, "use_sim_time"),
            require_scene(),
            middleware_profile(),
            rviz(),
            # the scene must be there, and stays
            managed_node("localizer", *PASSED_ON, *FRAMES, follow_mapper=False),
        ]
    )
