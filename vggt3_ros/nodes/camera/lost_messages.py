"""What the middleware reports of messages that it has lost before they reached a subscription."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


class LostMessages:
    """How many messages were lost before they reached a subscription, as the middleware reports.

    Numbers in sequence tell what is missing between two messages of a publisher, whatever the
    reason; rclpy has them after Humble. Events (Fast DDS, Cyclone) tell what got lost between the
    processes, also when nothing arrives at all, but not what newer messages have driven out of a
    full queue. Each misses some that the other has: the larger counts.
    """

    def __init__(self) -> None:
        self._by_events = self._by_numbers = 0
        # the newest of each publisher, as far as they have names
        self._numbers: dict[bytes | None, int] = {}
        self._mixed = False  # numbers of publishers without names that cannot be told apart

    @property
    def total(self) -> int:
        """Number of messages lost since the subscription was made."""
        return self._by_events if self._mixed else max(self._by_events, self._by_numbers)

    def on_event(self, event: Any) -> None:
        """The middleware has lost some."""
        self._by_events = event.total_count

    def on_message(self, info: Mapping[str, Any]) -> None:
        """One came; `info` is what rclpy tells about it."""
        number = info.get("publication_sequence_number")
        if number is None:
            return
        named = info.get("publisher_gid")  # after Jazzy
        publisher = named["data"] if named else None
        before = self._numbers.get(publisher, number - 1)
        if named is None and number <= before:
            self._mixed = True
        self._by_numbers += max(0, number - before - 1)
        self._numbers[publisher] = max(number, before)


def create_counted_subscription(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    profile: QoSProfile,
    lost: LostMessages,
) -> Any:
    """A subscription that tells `lost` of what came and what was lost."""

    def take(message: Any, info: Mapping[str, Any]) -> None:
        lost.on_message(info)
        callback(message)

    heard: Callable[..., None] = take if hasattr(Subscription, "CallbackType") else callback
    events = SubscriptionEventCallbacks(message_lost=lost.on_event)
    try:
        return node.create_subscription(kind, topic, heard, profile, event_callbacks=events)
    except UnsupportedEventTypeError:
        return node.create_subscription(kind, topic, heard, profile)
