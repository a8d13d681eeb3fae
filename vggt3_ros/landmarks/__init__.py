"""Poses checked and refined against a bounded set of landmarks: local features with 3-D
positions.
"""
