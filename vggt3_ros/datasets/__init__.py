"""Readers of the user's files: images and videos, calibrations, poses, and sequences with true
poses.
"""
