"""A topic that is heard whoever publishes it how."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from vggt3_ros.nodes.runtime.listening import fits, type_of

_LOOK = 0.5  # seconds between looks for publishers of another kind


class AdaptiveSubscription:
    """Subscribes with a profile, and besides with whatever profile a publisher needs that turns up.

    No single subscription hears every publisher and also gets what latched ones have said before it
    came; and one of each kind from the start would make every camera driver warn of those that do
    not fit it. `callback` gets every message once.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
    ) -> None:
        self._node = node
        self._kind = kind
        self._callback = callback
        self._topic = node.resolve_topic_name(topic)
        self._depth = profile.depth
        self._profiles: list[QoSProfile] = []
        self._subscriptions: list[Any] = []
        self._last: tuple[QoSProfile, Any] | None = None
        self._subscribe(profile)
        self._look()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_LOOK, self._look, clock=steady)

    def destroy(self) -> None:
        """Destroy all its subscriptions, and look for publishers no more."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _look(self) -> None:
        for publisher in self._node.get_publishers_info_by_topic(self._topic):
            offered = publisher.qos_profile
            ours = publisher.topic_type == type_of(self._kind)
            if ours and not any(_hears_all(profile, offered) for profile in self._profiles):
                like_it = QoSProfile(
                    depth=self._depth,
                    reliability=offered.reliability,
                    durability=offered.durability,
                )
                self._subscribe(like_it)

    def _subscribe(self, profile: QoSProfile) -> None:
        self._profiles.append(profile)
        take = partial(self._take, profile)
        subscription = self._node.create_subscription(self._kind, self._topic, take, profile)
        self._subscriptions.append(subscription)

    def _take(self, profile: QoSProfile, message: Any) -> None:
        if self._last is not None and self._last[0] is not profile and self._last[1] == message:
            return  # the same publisher's, by another subscription
        self._last = (profile, message)
        self._callback(message)


def _hears_all(wanted: QoSProfile, offered: QoSProfile) -> bool:
    """Whether a subscription gets what a publisher says, and what it has said before if that is
    latched.
    """
    latched = DurabilityPolicy.TRANSIENT_LOCAL
    return fits(offered, wanted) and (offered.durability != latched or wanted.durability == latched)
