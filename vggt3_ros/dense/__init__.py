"""Depth of keyframes refined by many views: the network proposes, multi-view geometry disposes."""
