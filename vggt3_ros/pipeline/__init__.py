"""The two use cases, free of ROS: frames become a scene, and a frame is localized in a scene."""
