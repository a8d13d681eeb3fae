"""ROS messages to and from what the package computes with: images, clouds, poses, transforms,
calibrations.
"""
