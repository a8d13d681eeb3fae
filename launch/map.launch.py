"""Mapper and localizer on a camera: `ros2 launch vggt3_ros map.launch.py
image_topic:=/camera/image_raw`.

Drive around, then stand still: the mapper makes a scene of what it saw, and the localizer localizes
in it. `ros2 launch vggt3_ros map.launch.py --show-args` explains the arguments.
"""

from launch import LaunchDescription

from vggt3_ros.nodes.launching.actions import managed_node, middleware_profile, rviz
from vggt3_ros.nodes.launching.arguments import COMMON, FRAMES, arguments

CAMERA = ("image_topic", "image_transport", "camera_info_topic", "odom_topic")
BOTH = (*CAMERA, *FRAMES, "model", "device")


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return LaunchDescription(
        [
            *arguments(
                *CAMERA, "depth_topic", "model", "device", "scene_dir", *COMMON, "use_sim_time"
            ),
            middleware_profile(),
            rviz(),
            managed_node("mapper", *BOTH, "depth_topic", "scene_dir"),
            managed_node("localizer", *BOTH),  # its scenes come from the mapper
        ]
    )
