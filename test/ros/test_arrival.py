"""How map -> odom is dated: whoever asks for the transform of now finds one, however attempts,
stamps and clocks go.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image

from vggt3_ros.nodes.localizer import arrival
from vggt3_ros.nodes.localizer.arrival import NodeTime
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.pose_output import PoseOutput
from vggt3_ros.nodes.messages.conversions import header
from vggt3_ros.pipeline.tracking import Tracked, TrackingState

SECOND = 10**9
TOLERANCE = SECOND // 2
UNIT = torch.eye(4, dtype=torch.float64)


class Bench:
    """A real node and its output, with the steady clock and that of a simulation in the test's
    hands.
    """

    def __init__(self, node: Node, patch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.node = node
        self.steady = 0
        patch.setattr(arrival, "time", SimpleNamespace(monotonic_ns=lambda: self.steady))
        self.time = NodeTime(node)
        settings = LocalizerParameters(**changes)
        self.output = PoseOutput(node, lambda: settings, self.time)
        self.dates: list[int] = []
        patch.setattr(
            self.output._broadcaster,
            "send",
            lambda parent, child, stamp, pose: self.dates.append(stamp),
        )

    def wall(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def simulate(self, ns: int) -> None:
        self.node.get_clock().set_ros_time_override(
            Time(nanoseconds=ns, clock_type=ClockType.ROS_TIME)
        )

    def arrive(self, stamp: int) -> arrival.Arrival:
        return self.time.arrival(Image(header=header("camera", stamp)))

    def publish(self, came: arrival.Arrival, odometry: bool = True) -> str:
        """The end of an attempt that led to a pose."""
        tracked = Tracked(TrackingState.LOCALIZED, "", True, UNIT, None, UNIT if odometry else None)
        seen: Any = SimpleNamespace(odometry_problem="there is no odometry")
        return self.output.publish_transform(None, came, seen, tracked, True)  # type: ignore[arg-type]

    def date(self) -> int:
        """Of the transform that is repeated now."""
        self.output.repeat_transform()
        return self.dates[-1]


@pytest.fixture
def bench(ros_context: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """A bench; with simulated=True its node takes the time from /clock."""
    made: list[Node] = []

    def make(simulated: bool = False, **changes: Any) -> Bench:
        made.append(Node("bench", parameter_overrides=[Parameter("use_sim_time", value=simulated)]))
        return Bench(made[-1], monkeypatch, **changes)

    yield make
    for node in made:
        node.destroy_node()


def test_slow_attempts_do_not_date_the_transform_back(bench: Callable[..., Bench]) -> None:
    ours = bench()
    begin = ours.wall()
    came = ours.arrive(begin - SECOND // 10)
    ours.steady += 3 * SECOND // 2
    ours.publish(came)
    assert ours.dates[-1] >= begin + 3 * SECOND // 2 + TOLERANCE
    ours.steady += SECOND
    assert begin <= ours.date() - 5 * SECOND // 2 - TOLERANCE < begin + SECOND, (
        "once more a second later"
    )


def test_images_that_come_late_do_not_date_the_transform_back(bench: Callable[..., Bench]) -> None:
    ours = bench()
    begin = ours.wall()
    ours.publish(ours.arrive(begin - 3 * SECOND // 2))  # over a bad radio link
    assert begin + TOLERANCE <= ours.dates[-1] < begin + TOLERANCE + SECOND


@pytest.mark.parametrize("offset", [-3600, 3600, -5, 5])
def test_stamps_of_another_clock_are_kept(bench: Callable[..., Bench], offset: int) -> None:
    ours = bench()
    stamp = ours.wall() + offset * SECOND
    came = ours.arrive(stamp)
    ours.steady += SECOND
    ours.publish(came)
    assert came.age_ns == 0 and ours.dates == [stamp + SECOND + TOLERANCE]


def test_a_recording_dates_by_its_own_clock_fast_or_paused(bench: Callable[..., Bench]) -> None:
    ours, begin = bench(simulated=True), 1_000 * SECOND
    ours.simulate(begin)
    came = ours.arrive(begin)
    ours.steady += SECOND
    ours.simulate(begin + 2 * SECOND)  # played at rate 2
    ours.publish(came)
    assert ours.dates[-1] == begin + 2 * SECOND + TOLERANCE
    ours.steady += 60 * SECOND
    assert ours.date() == begin + 2 * SECOND + TOLERANCE, "paused"
    assert ours.time.since_ns(came.moment) == 2 * SECOND
    ours.simulate(begin - 100 * SECOND)  # played again
    assert ours.time.since_ns(came.moment) == 0


def test_a_clock_that_starts_after_the_first_pose_counts_from_then_on(
    bench: Callable[..., Bench],
) -> None:
    ours, begin = bench(simulated=True), 1_700_000_000 * SECOND
    ours.publish(ours.arrive(begin))
    ours.steady += SECOND
    ours.simulate(begin + SECOND)
    assert ours.date() == begin + SECOND + TOLERANCE


def test_corrections_never_share_a_date(bench: Callable[..., Bench]) -> None:
    """Whoever listens keeps the first transform of a date."""
    ours, stamp = bench(), 1_000 * SECOND
    ours.publish(ours.arrive(stamp + 1000))
    ours.publish(ours.arrive(stamp))
    assert ours.dates[1] == ours.dates[0] + 1


def test_a_date_that_no_message_holds_is_no_transform_and_does_not_spoil_the_next(
    bench: Callable[..., Bench],
) -> None:
    ours = bench()
    ours.output._broadcaster.send = type(ours.output._broadcaster).send.__get__(
        ours.output._broadcaster
    )
    said = ours.publish(ours.arrive(2**31 * SECOND - 1))
    assert said.startswith("nothing: stamp of") and "32-bit" in said
    assert ours.output.standing("no image has come") == "nothing: no image has come"
    assert ours.publish(ours.arrive(1_000 * SECOND)) == "map -> odom"


def test_nothing_is_not_said_while_a_transform_is_repeated(bench: Callable[..., Bench]) -> None:
    ours = bench()
    came = ours.arrive(1_000 * SECOND)
    assert ours.publish(came, odometry=False) == "nothing: there is no odometry"
    assert ours.output.standing("no image has come") == "nothing: no image has come"
    assert ours.publish(came) == "map -> odom"
    assert ours.publish(came, odometry=False) == "map -> odom, frozen: there is no odometry"
    assert ours.output.standing("no image has come") == "map -> odom, frozen: no image has come"
    ours.output.forget()
    assert ours.output.standing("no image has come") == "nothing: no image has come"
