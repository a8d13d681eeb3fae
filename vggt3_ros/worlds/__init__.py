"""Procedural rooms rendered by ray casting: images with exact poses, intrinsics and depth, on any
torch device.
"""
