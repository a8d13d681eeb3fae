"""Names of a camera's topics, as image_transport and image_pipeline have them."""

from __future__ import annotations

import posixpath

from rclpy.node import Node

_COMPRESSED = "/compressed"


def image_topic(node: Node, transport: str) -> str:
    """The resolved name of the images of a transport, "raw" or "compressed".

    Compressed ones are beside the raw ones: `image` is remapped first, then /compressed is
    appended, unless its new name ends so already. A remapping of image/compressed itself comes
    first.
    """
    base = node.resolve_topic_name("image")
    if transport == "raw":
        return base
    if _is_remapped(node, "image" + _COMPRESSED):
        return node.resolve_topic_name("image" + _COMPRESSED)
    return base if base.endswith(_COMPRESSED) else base + _COMPRESSED


def info_topic(node: Node, transport: str) -> str:
    """The resolved name of the calibration: camera_info, which is beside a remapped image unless it
    is remapped too.
    """
    image = image_topic(node, transport)
    own = node.resolve_topic_name("image", only_expand=True)
    if _is_remapped(node, "camera_info") or image in (own, own + _COMPRESSED):
        return node.resolve_topic_name("camera_info")
    return posixpath.join(posixpath.dirname(image.removesuffix(_COMPRESSED)), "camera_info")


def is_rectified(image: str) -> bool:
    """Whether an image topic's name says that its images are rectified: image_rect,
    image_rect_color, ...
    """
    return "rect" in posixpath.basename(image.removesuffix(_COMPRESSED)).split("_")


def _is_remapped(node: Node, name: str) -> bool:
    return node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True)
