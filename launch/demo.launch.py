"""All without a camera: a simulated one drives through a room, which is mapped, and back through it
on another path.

`ros2 launch vggt3_ros demo.launch.py` shows it in RViz where that is installed. When the map is
there, the way back begins with `ros2 service call /vggt3/sim_camera/next_leg std_srvs/srv/Trigger`.
"""

from launch import LaunchDescription

from vggt3_ros.nodes.launching.actions import (
    managed_node,
    middleware_profile,
    plain_node,
    rviz,
    true_if_installed,
)
from vggt3_ros.nodes.launching.arguments import COMMON, FRAMES, arguments

BOTH = ("model", "device", *FRAMES)


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return LaunchDescription(
        [
            *arguments("model", "device", "scene_dir", *COMMON, rviz=true_if_installed("rviz2")),
            middleware_profile(),
            rviz(),
            plain_node("sim_camera", *FRAMES),
            managed_node("mapper", *BOTH, "scene_dir"),
            managed_node("localizer", *BOTH),
        ]
    )
