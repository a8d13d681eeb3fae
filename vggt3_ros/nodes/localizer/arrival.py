"""When an image came, and how much time has passed since, whatever its stamp is and however long an
attempt takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from vggt3_ros.nodes.camera.input import ImageMessage
from vggt3_ros.nodes.messages.conversions import stamp_ns

# an image that seems to be older than this when it comes has its stamp from another clock
_OLDEST_NS = 2 * 10**9


@dataclass(frozen=True)
class Moment:
    """A moment by a clock that never jumps, and by that of a simulation: None as long as none tells
    the time.
    """

    steady_ns: int
    simulated_ns: int | None


@dataclass(frozen=True, eq=False)
class Arrival:
    """An image as it came. age_ns: how old it was then; 0 where its stamp is of another clock than
    the node's.
    """

    message: ImageMessage
    moment: Moment
    age_ns: int

    @property
    def time_ns(self) -> int:
        """When it came, by the clock that stamps the images."""
        return stamp_ns(self.message.header.stamp) + self.age_ns


class NodeTime:
    """Tells how much time has passed for a node: in a simulation, or a recording that is played
    with its clock, as that clock says, which may run fast, slowly or not at all; otherwise by a
    clock that nobody sets.
    """

    def __init__(self, node: Node) -> None:
        self._clock: Any = node.get_clock()  # a ROSClock, though not declared as one

    def moment(self) -> Moment:
        """The moment at which it is called."""
        simulated = self._clock.now().nanoseconds if self._clock.ros_time_is_active else 0
        return Moment(time.monotonic_ns(), simulated or None)  # 0: nothing has come on /clock yet

    def since_ns(self, moment: Moment) -> int:
        """Nanoseconds that have passed since; 0 after a simulated clock was set back."""
        now = self.moment()
        if now.simulated_ns is None or moment.simulated_ns is None:
            return now.steady_ns - moment.steady_ns
        return max(0, now.simulated_ns - moment.simulated_ns)

    def arrival(self, message: ImageMessage) -> Arrival:
        """For an image that comes now: to be called first, before it waits for anything."""
        age = int(self._clock.now().nanoseconds) - stamp_ns(message.header.stamp)
        return Arrival(message, self.moment(), age if 0 < age <= _OLDEST_NS else 0)
