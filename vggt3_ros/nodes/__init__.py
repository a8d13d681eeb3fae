"""The ROS 2 graph: what `ros2 launch` and `vggt3 nodes` run. Only this folder knows rclpy."""

from vggt3_ros.threads import spare_the_cores

spare_the_cores()  # every node's module loads this one first, before NumPy and torch
