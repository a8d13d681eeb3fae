"""A topic that a node needs: it says when nothing comes, why, and when something comes again."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rclpy.node import Node
from rclpy.qos import QoSProfile

from vggt3_ros.nodes.runtime.listening import type_of, why_nothing_comes

_SILENCE = 5.0  # seconds, after which something is said; so often the graph is asked for the reason
_REPEAT = 60.0  # seconds until the same is said again


class Awaited:
    """A topic on which something should come; for the executor's thread.

    name: ours for the topic, to be remapped; topic: its resolved name; kind: the class of its
    messages. profile, alternatives: see why_nothing_comes. once: a single message is enough.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        kind: type,
        profile: QoSProfile | None,
        alternatives: Mapping[str, str],
        once: bool = False,
    ) -> None:
        self._node = node
        self._name = name
        self._topic = topic
        self._kind = type_of(kind)
        self._profile = profile
        self._alternatives = alternatives
        self._once = once
        self._satisfied = False
        self._last = self._asked = time.monotonic()
        self._why = self._said = ""
        self._said_at = 0.0

    @property
    def problem(self) -> str:
        """That nothing came for some seconds, and why; empty while something comes."""
        if not self._why:
            return ""
        seconds = time.monotonic() - self._last
        return f"no {self._name} for {seconds:.0f} s on {self._topic} ({self._kind}): {self._why}"

    def came(self) -> None:
        """Note that a message came; logs it when there was a problem before."""
        now = time.monotonic()
        if self._why:
            self._node.get_logger().info(
                f"{self._name} comes now on {self._topic}, after {now - self._last:.1f} s"
            )
        self._last = self._asked = now
        self._why = self._said = ""
        self._satisfied = self._once

    def look(self) -> None:
        """To be called about every second: say that nothing comes, again when the reason is
        another, and rarely.
        """
        now = time.monotonic()
        if self._satisfied or now - self._asked < _SILENCE:
            return
        self._asked = now
        self._why = why_nothing_comes(
            self._node, self._topic, self._kind, self._profile, self._alternatives, self._name
        )  # fmt: skip
        if self._why != self._said or now - self._said_at >= _REPEAT:
            self._said = self._why
            self._said_at = now
            self._node.get_logger().warning(self.problem)
