"""Which topics of a recorded bag are the camera, the odometry and the transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vggt3_ros.errors import InputError

IMAGE, COMPRESSED, INFO, DEPTH, ODOM = "image", "image/compressed", "camera_info", "depth", "odom"
MOVING, FIXED = "/tf", "/tf_static"
TYPES = {
    IMAGE: "sensor_msgs/msg/Image",
    COMPRESSED: "sensor_msgs/msg/CompressedImage",
    INFO: "sensor_msgs/msg/CameraInfo",
    DEPTH: "sensor_msgs/msg/Image",
    ODOM: "nav_msgs/msg/Odometry",
    MOVING: "tf2_msgs/msg/TFMessage",
    FIXED: "tf2_msgs/msg/TFMessage",
}


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: its name there, its type such as "sensor_msgs/msg/Image", and how many messages it has."""

    name: str
    type: str
    count: int


def choose_topics(available: Sequence[BagTopic], wanted: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which topic of a bag (value) to play under which of our names (key).

    Our names are image or image/compressed, camera_info, odom, depth, /tf and /tf_static. `wanted` decides for some of
    them (a compressed image topic may be given as image; "" leaves a topic out). The others: the first colour image
    with a camera_info beside it, that camera_info, the first odometry, transforms; depth only when it is wanted.
    Raises InputError that lists the bag's topics when there is no image or when a wanted topic is not there.
    """
    wanted = dict(wanted or {})
    unknown = sorted(set(wanted) - set(TYPES))
    if unknown:
        raise InputError(f"there is no topic {', '.join(unknown)} to play to; expected one of {', '.join(TYPES)}")
    kinds = {topic.name: topic.type for topic in available if topic.count > 0}
    for name, topic in wanted.items():
        fits = (IMAGE, COMPRESSED) if name in (IMAGE, COMPRESSED) else (name,)
        types = [TYPES[each] for each in fits]
        if topic and kinds.get(topic) not in types:
            raise InputError(
                f"{name} is to be played from {topic}, which is {kinds.get(topic, 'not there')}; expected "
                f"{' or '.join(types)}. {_listed(available)}"
            )
    image = wanted.pop(COMPRESSED, "") or wanted.pop(IMAGE, "") or _first_image(kinds)
    wanted.pop(IMAGE, None)
    if image is None:
        raise InputError(f"the bag has no images of type {TYPES[IMAGE]} or {TYPES[COMPRESSED]}. "
                         f"{_listed(available)}")  # fmt: skip
    chosen = {
        IMAGE if kinds[image] == TYPES[IMAGE] else COMPRESSED: image,
        INFO: _info_of(image, kinds),
        ODOM: next((name for name in sorted(kinds) if kinds[name] == TYPES[ODOM]), None),
        MOVING: _transforms(kinds, "tf"),
        FIXED: _transforms(kinds, "tf_static"),
        **wanted,
    }
    return {name: topic for name, topic in chosen.items() if topic}


def _first_image(kinds: Mapping[str, str]) -> str | None:
    """A colour image: calibrated rather than not, then raw rather than compressed, then by name."""
    pictures = (TYPES[IMAGE], TYPES[COMPRESSED])
    images = [name for name, kind in kinds.items() if kind in pictures and "depth" not in name.lower()]
    return min(images, key=lambda name: (_beside(name, kinds) is None, kinds[name] != pictures[0], name), default=None)


def _beside(image: str, kinds: Mapping[str, str]) -> str | None:
    """The camera_info that belongs to an image topic by its name."""
    base = image.removesuffix("/compressed")
    for name in (f"{base.rpartition('/')[0]}/camera_info", f"{base}/camera_info"):
        if kinds.get(name) == TYPES[INFO]:
            return name
    return None


def _info_of(image: str, kinds: Mapping[str, str]) -> str | None:
    """The camera_info beside the image, or the only one there is."""
    infos = [name for name, kind in kinds.items() if kind == TYPES[INFO]]
    return _beside(image, kinds) or (infos[0] if len(infos) == 1 else None)


def _transforms(kinds: Mapping[str, str], last: str) -> str | None:
    """The topic of transforms whose name ends like this, the shortest one."""
    found = [name for name, kind in kinds.items() if kind == TYPES[MOVING] and name.split("/")[-1] == last]
    return min(found, key=len, default=None)


def _listed(available: Sequence[BagTopic]) -> str:
    lines = [f"{topic.name} ({topic.type}, {topic.count} messages)" for topic in available]
    return f"The bag has: {', '.join(lines) or 'nothing'}"
