"""Qualities of service of the topics, so that both ends fit each other."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vggt3_ros.errors import InputError

IMAGE_QOS = ("sensor_data", "reliable")
_IMAGES = 15  # half a second of a fast camera: with 5, a node that was held up for 0.2 s lost images


def _profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


LATCHED = _profile(1, latched=True)  # whoever comes late gets the newest: scene, points, keyframes
STATUS = _profile(10)
TF = _profile(100)  # as tf2_ros has it
TF_STATIC_OUT = _profile(1, latched=True)
TF_STATIC_IN = _profile(100, latched=True)  # one latched message of each publisher


# Several, because no single subscription hears both publishers that are latched and publishers that are not, and gets
# what the latched ones said before: what comes twice means the same.
TF_STATIC_HEARD = (TF_STATIC_IN, _profile(100, reliable=False))
ODOMETRY_HEARD = (_profile(50, reliable=False), LATCHED)
SCENE_HEARD = (LATCHED, _profile(1))
HINTS_HEARD = (_profile(10), LATCHED)


def info_heard(name: str) -> tuple[QoSProfile, ...]:
    """How calibrations are heard beside images of that `image_qos`: every one, whoever publishes it how."""
    profile = image_qos(name)
    once = (LATCHED,) if name == "sensor_data" else (LATCHED, image_qos("sensor_data"))
    return (profile, *once)


def image_qos(name: str) -> QoSProfile:
    """How images are transported: "sensor_data" (late ones are lost; takes every publisher) or "reliable".

    Raises InputError for another name.
    """
    if name not in IMAGE_QOS:
        raise InputError(f"image QoS {name!r} is unknown; expected one of {', '.join(IMAGE_QOS)}")
    return _profile(_IMAGES, reliable=name == "reliable")
