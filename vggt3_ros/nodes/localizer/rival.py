"""Others that say on /tf where the odometry is in the map: of two, listeners take what comes last,
and robots jump.
"""

from __future__ import annotations

import threading
from collections import deque

from rclpy.node import Node

from vggt3_ros.nodes.runtime.listening import publishers_of

_REMEMBERED = 2000  # of our own transforms: they come back to us, at the latest after some seconds


class Rival:
    """Compares what is heard of a frame with what this node has sent; warns once when it is
    another's.

    `sends` and `hears` may be called by different threads.
    """

    def __init__(self, node: Node, frame: str) -> None:
        self._node = node
        self._frame = frame
        self._sent: deque[int] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()
        self._warned = False

    def sends(self, stamp_ns: int) -> None:
        """A transform of the frame is about to be sent by this node."""
        with self._lock:
            self._sent.append(stamp_ns)

    def hears(self, parent: str, child: str, stamp_ns: int, static: bool) -> None:
        """A transform came, of any frame."""
        if self._warned or child != self._frame:
            return
        with self._lock:
            if not static and stamp_ns in self._sent:
                return
        topic = "/tf_static" if static else "/tf"
        names = publishers_of(self._node, self._node.resolve_topic_name(topic))
        own = self._node.get_fully_qualified_name()
        if own in names:
            names.remove(own)  # once: another localizer may have the same name
        who = f"one of {', '.join(sorted(set(names)))}" if names else "unknown"
        self._warned = True
        self._node.get_logger().warning(
            f"{parent} -> {self._frame} comes from another node as well ({who}, on {topic}): the"
            " robot will seem to jump between two places; stop it, or set tf_mode to none here"
        )
