"""Subscriptions that hear publishers of every quality of service, or that tell how much was lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


def create_subscriptions(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    profiles: Sequence[QoSProfile],
    callback_group: CallbackGroup | None = None,
) -> list[Any]:
    """One subscription for each profile, all with the same callback.

    rclpy warns of every publisher that does not fit a subscription; here another one of them hears it.
    """
    silent = SubscriptionEventCallbacks(use_default_callbacks=len(profiles) == 1)
    return [
        node.create_subscription(kind, topic, callback, each, callback_group=callback_group, event_callbacks=silent)
        for each in profiles
    ]


def create_counted_subscription(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    profile: QoSProfile,
    on_lost: Callable[[int], None],
) -> Any:
    """A subscription that calls `on_lost(total)` when messages were lost, where the middleware can tell.

    With Fast DDS it tells of those that got lost between the processes, not of those that newer ones have driven out
    of a full queue.
    """
    events = SubscriptionEventCallbacks(message_lost=lambda event: on_lost(event.total_count))
    try:
        return node.create_subscription(kind, topic, callback, profile, event_callbacks=events)
    except UnsupportedEventTypeError:
        return node.create_subscription(kind, topic, callback, profile)
