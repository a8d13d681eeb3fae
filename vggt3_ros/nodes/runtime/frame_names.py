"""Names of TF frames: how they are written, and which of a node's must differ."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

# base_frame and camera_frame may be one frame: that of a robot which is nothing but a camera.
_DIFFERENT = ("map_frame", "odom_frame", "base_frame")


def frame_name(frame: str) -> str:
    """A frame without the leading slash of ROS 1, which tf2 does not take."""
    return frame.lstrip("/")


def frames_in_conflict(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with parameters that give one name to frames which TF must keep apart; empty
    names are none.
    """
    pairs = [
        *combinations(_DIFFERENT, 2),
        ("map_frame", "camera_frame"),
        ("odom_frame", "camera_frame"),
    ]
    return [
        f"{one} and {other} are both {values[one]!r}; give each a frame of its own"
        for one, other in pairs
        if values.get(one) and values.get(one) == values.get(other)
    ]
