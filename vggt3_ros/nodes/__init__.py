"""The ROS 2 graph: what `ros2 launch` and `vggt3 nodes` run. Only this folder knows rclpy."""

import os

# Read when torch is loaded, which is later: threads that spin while they wait for each other make
# small networks crawl as soon as another program needs one of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
