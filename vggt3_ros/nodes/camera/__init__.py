"""A camera that a node listens to: its images, calibration and depth, and what tells where it
is.
"""
