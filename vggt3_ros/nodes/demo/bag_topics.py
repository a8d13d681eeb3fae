"""Which topics of a recorded bag are the camera, the odometry and the transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vggt3_ros.errors import InputError

IMAGE = "image"
COMPRESSED = "image/compressed"
INFO = "camera_info"
DEPTH = "depth"
ODOM = "odom"
MOVING = "/tf"
FIXED = "/tf_static"
TYPES = {
    IMAGE: "sensor_msgs/msg/Image",
    COMPRESSED: "sensor_msgs/msg/CompressedImage",
    INFO: "sensor_msgs/msg/CameraInfo",
    DEPTH: "sensor_msgs/msg/Image",
    ODOM: "nav_msgs/msg/Odometry",
    MOVING: "tf2_msgs/msg/TFMessage",
    FIXED: "tf2_msgs/msg/TFMessage",
}


# in a topic's name
_NO_COLOUR = ("depth", "disparity", "confidence", "infra", "/ir/", "mask", "label", "segment")
_GLOBAL = ("global", "map", "gps")


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: its name there, its type such as "sensor_msgs/msg/Image", and how many
    messages it has.

    Other spellings of the type, such as "sensor_msgs/Image", are understood.
    """

    name: str
    type: str
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", type_name(self.type))


def type_name(spelling: str) -> str:
    """A message type as ROS 2 has it: "sensor_msgs/msg/Image", of "sensor_msgs/Image" or DDS's
    "sensor_msgs::...".

    What is no such name is returned as it is.
    """
    parts = [part for part in spelling.replace("::", "/").split("/") if part not in ("msg", "dds_")]
    return f"{parts[0]}/msg/{parts[1].removesuffix('_')}" if len(parts) == 2 else spelling


def choose_topics(
    available: Sequence[BagTopic], wanted: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which topic of a bag (value) to play under which of our names (key).

    Our names are image or image/compressed, camera_info, odom, depth, /tf and /tf_static. `wanted`
    decides for some of them (a compressed image topic may be given as image; "" leaves a topic
    out). The others: the only colour camera, calibrated rather than not, raw rather than
    compressed; the camera_info beside it, the only odometry or else the filtered one, transforms;
    depth only when it is wanted. Raises InputError that lists the bag's topics when there is no
    image, when several would do equally well, or when a wanted topic is not there.
    """
    wanted = dict(wanted or {})
    unknown = sorted(set(wanted) - set(TYPES))
    if unknown:
        raise InputError(
            f"there is no topic {', '.join(unknown)} to play to; expected one of {', '.join(TYPES)}"
        )
    kinds = {topic.name: topic.type for topic in available if topic.count > 0}
    for name, topic in wanted.items():
        fits = (IMAGE, COMPRESSED) if name in (IMAGE, COMPRESSED) else (name,)
        types = [TYPES[each] for each in fits]
        if topic and kinds.get(topic) not in types:
            raise InputError(
                f"{name} is to be played from {topic}, which is {kinds.get(topic, 'not there')};"
                f" expected {' or '.join(types)}. {_listed(available)}"
            )
    image = wanted.pop(COMPRESSED, "") or wanted.pop(IMAGE, "") or _camera(kinds)
    wanted.pop(IMAGE, None)
    if image is None:
        raise InputError(f"the bag has no images of type {TYPES[IMAGE]} or {TYPES[COMPRESSED]}. "
                         f"{_listed(available)}")  # fmt: skip
    chosen: dict[str, str | None] = {IMAGE if kinds[image] == TYPES[IMAGE] else COMPRESSED: image}
    for name, choose in (
        (INFO, lambda: _info_of(image, kinds)),
        (ODOM, lambda: _odometry(kinds)),
        (MOVING, lambda: _transforms(kinds, MOVING)),
        (FIXED, lambda: _transforms(kinds, FIXED)),
    ):
        if name not in wanted:  # nobody is asked what was answered
            chosen[name] = choose()
    return {name: topic for name, topic in {**chosen, **wanted}.items() if topic}


def _camera(kinds: Mapping[str, str]) -> str | None:
    """The image topic of the only camera: calibrated ones before others, colour before infrared and
    the like.
    """
    pictures = (TYPES[IMAGE], TYPES[COMPRESSED])
    images = [
        name for name, kind in kinds.items() if kind in pictures and "depth" not in name.lower()
    ]
    images = [name for name in images if _beside(name, kinds)] or images
    images = [name for name in images if not _has_any(name, _NO_COLOUR)] or images
    by_camera: dict[str, list[str]] = {}
    for name in images:
        by_camera.setdefault(_beside(name, kinds) or _base(name), []).append(name)

    def unusual(name: str) -> tuple[bool, bool, str]:
        return kinds[name] != pictures[0], "rect" in name.rpartition("/")[2], name

    first = sorted(min(names, key=unusual) for names in by_camera.values())
    return _only(first, IMAGE, "cameras")


def _has_any(name: str, words: Sequence[str]) -> bool:
    """Whether one of the words, in lower case, is part of a topic's name."""
    return any(word in name.lower() for word in words)


def _base(image: str) -> str:
    """An image topic's name without the transport."""
    return image.removesuffix("/compressed")


def _beside(image: str, kinds: Mapping[str, str]) -> str | None:
    """The camera_info that belongs to an image topic by its name."""
    base = _base(image)
    for name in (f"{base}/camera_info", f"{base.rpartition('/')[0]}/camera_info"):
        if kinds.get(name) == TYPES[INFO]:
            return name
    return None


def _info_of(image: str, kinds: Mapping[str, str]) -> str | None:
    """The camera_info beside the image, or the only one there is."""
    infos = sorted(name for name, kind in kinds.items() if kind == TYPES[INFO])
    return _beside(image, kinds) or _only(infos, INFO, f"calibrations, none of them beside {image}")


def _odometry(kinds: Mapping[str, str]) -> str | None:
    """The only odometry; of several the filtered one (robot_localization), rather in odom than in a
    global frame.
    """
    names = sorted(name for name, kind in kinds.items() if kind == TYPES[ODOM])
    if len(names) > 1:
        names = [name for name in names if "filtered" in name.lower()] or names
        names = [name for name in names if not _has_any(name, _GLOBAL)] or names
    return _only(names, ODOM, "odometries")


def _transforms(kinds: Mapping[str, str], usual: str) -> str | None:
    """The topic of transforms that has the usual name, or the only one that ends with it, in a
    namespace.
    """
    names = sorted(
        name for name, kind in kinds.items() if kind == TYPES[usual] and name.endswith(usual)
    )
    return usual if usual in names else _only(names, usual, "topics of transforms")


def _only(names: Sequence[str], ours: str, what: str) -> str | None:
    """The only one of the bag's topics that may be `ours`; None when there is none. Raises
    InputError for several.
    """
    if len(names) > 1:
        choices = " or ".join(f"{ours}={name}" for name in names)
        raise InputError(
            f"the bag has several {what}: {', '.join(names)}; choose one of them (vggt3 demo"
            f" --topic): {choices} ({ours}= leaves it out)"
        )
    return names[0] if names else None


def _listed(available: Sequence[BagTopic]) -> str:
    lines = [f"{topic.name} ({topic.type}, {topic.count} messages)" for topic in available]
    return f"The bag has: {', '.join(lines) or 'nothing'}"
