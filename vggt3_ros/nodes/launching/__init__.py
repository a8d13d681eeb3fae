"""What the launch files of launch/ are made of. It needs `launch` and `launch_ros`, which come with
ROS.
"""
