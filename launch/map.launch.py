"""Mapper and localizer on a camera: `ros2 launch vggt3_ros map.launch.py image_topic:=/camera/image_raw`.

Drive around, then stand still: the mapper makes a scene of what it saw, and the localizer localizes in it.
`ros2 launch vggt3_ros map.launch.py --show-args` explains the arguments.
"""

from launch import LaunchDescription

from vggt3_ros.nodes.launching import arguments, managed_node, middleware_profile, rviz

CAMERA = ("image_topic", "camera_info_topic", "odom_topic")
BOTH = ("model", "device", "base_frame")


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return LaunchDescription(
        [
            *arguments(*CAMERA, "depth_topic", *BOTH, "scene_dir", "namespace", "params_file", "use_sim_time", "rviz"),
            middleware_profile(),
            rviz(),
            managed_node("mapper", *CAMERA, "depth_topic", *BOTH, "scene_dir"),
            managed_node("localizer", *CAMERA, *BOTH),  # its scenes come from the mapper
        ]
    )
