"""Qualities of service of the topics, so that both ends fit each other."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vggt3_ros.errors import InputError

IMAGE_QOS = ("sensor_data", "reliable")
# half a second of a fast camera: with 5, a node that was held up for 0.2 s lost images
_IMAGES = 15


def _profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


LATCHED = _profile(1, latched=True)  # whoever comes late gets the newest: scene, points, keyframes
STATUS = _profile(10)
HINTS = _profile(10)
ODOMETRY = _profile(50, reliable=False)  # takes every publisher; the next one is as good
TF = _profile(100)  # as tf2_ros has it
TF_STATIC_OUT = _profile(1, latched=True)
TF_STATIC_IN = _profile(100, latched=True)  # one latched message of each publisher


def image_qos(name: str) -> QoSProfile:
    """How images are transported: "sensor_data" (late ones are lost; takes every publisher) or
    "reliable".

    Raises InputError for another name.
    """
    if name not in IMAGE_QOS:
        raise InputError(f"image QoS {name!r} is unknown; expected one of {', '.join(IMAGE_QOS)}")
    return _profile(_IMAGES, reliable=name == "reliable")
