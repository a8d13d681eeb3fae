"""A node survives what its callbacks raise, tells of it, and answers whoever asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.waitable import NumberOfEntities, Waitable
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.mapper.services import MapperServices
from vggt3_ros.nodes.runtime.guard import GuardedExecutor, GuardedNode
from vggt3_ros.srv import LoadScene

from .processes import ask, wait_for


class Faulty(GuardedNode):
    """Every callback of it raises, until `is_well`."""

    def __init__(self, **options: Any) -> None:
        self.is_well = False
        super().__init__("faulty", namespace="/vggt3", **options)
        self.heard: list[str] = []
        self.ticks = 0
        self.create_subscription(String, "words", self._on_words, 10)
        self.create_service(Trigger, "plain", self._on_trigger)
        self.create_service(Trigger, "coroutine", self._on_trigger_later)
        self.create_service(LoadScene, "load", self._on_trigger)
        self.add_on_set_parameters_callback(self._on_parameters)

    def fail(self, what: object) -> None:
        if not self.is_well:
            raise KeyError(what)

    def _on_words(self, message: String) -> None:
        self.fail(message.data)
        self.heard.append(message.data)

    def _on_trigger(self, request: Any, response: Any) -> Any:
        self.fail("plain")
        response.success = True
        return response

    async def _on_trigger_later(self, request: Any, response: Any) -> Any:
        return self._on_trigger(request, response)

    def _on_parameters(self, changes: list[Any]) -> Any:
        self.fail("parameters")

    def tick(self) -> None:
        self.ticks += 1
        self.fail("tick")


@pytest.fixture
def faulty(ros_context: Any) -> Iterator[Faulty]:
    """Spun by an executor of the kind that the programs have."""
    node = Faulty(parameter_overrides=[Parameter("use_sim_time", value=True)])
    executor = GuardedExecutor(context=ros_context)
    executor.add_node(node)
    going = True

    def spin() -> None:
        try:
            while going:
                executor.spin_once(timeout_sec=0.05)
        except ExternalShutdownException:
            pass

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield node
    going = False
    thread.join()
    node.destroy_node()


def counted(node: GuardedNode, errors: int) -> None:
    wait_for(lambda: node.errors_survived >= errors, f"{errors} errors survived")


def test_timers_subscriptions_and_the_clock_of_ros_itself_are_survived(
    faulty: Faulty, node: Node
) -> None:
    words = node.create_publisher(String, "words", 10)
    clock = node.create_publisher(Clock, "/clock", 10)
    wait_for(lambda: words.get_subscription_count() and clock.get_subscription_count(), "the node")
    words.publish(String(data="bad"))
    counted(faulty, 1)
    before_time = Clock()
    before_time.clock.sec = -5
    clock.publish(before_time)
    counted(faulty, 2)
    faulty.create_timer(0.01, faulty.tick, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))
    faulty.executor.wake()
    wait_for(lambda: faulty.ticks >= 5, "a timer that goes on although it raises")
    faulty.is_well = True
    words.publish(String(data="good"))
    wait_for(lambda: faulty.heard == ["good"], "a subscription that goes on")


def test_a_message_that_cannot_be_taken_leaves_no_node_deaf(faulty: Faulty, node: Node) -> None:
    """Otherwise rclpy would wait neither for its topic nor for any other of the callback group
    again.
    """
    faulty.is_well = True
    words = node.create_publisher(String, "words", 10)
    wait_for(words.get_subscription_count, "the node")
    (subscription,) = [each for each in faulty.subscriptions if each.topic_name == "/vggt3/words"]
    subscription.msg_type = int  # which no message can be
    words.publish(String(data="lost"))
    counted(faulty, 1)
    subscription.msg_type = String
    words.publish(String(data="good"))
    wait_for(lambda: faulty.heard[-1:] == ["good"], "a subscription that goes on")


class Gone(Waitable):  # type: ignore[type-arg]  # not generic in every rclpy
    """What an event of a subscription is that was destroyed before its turn came."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.default_callback_group)
        self.taken = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities()

    def add_to_wait_set(self, wait_set: Any) -> None:
        pass

    def is_ready(self, wait_set: Any) -> bool:
        return True

    def take_data(self) -> None:
        self.taken += 1
        raise InvalidHandle("destroyed")

    async def execute(self, taken_data: None) -> None:
        pass


def test_what_was_destroyed_before_its_turn_is_no_error(faulty: Faulty) -> None:
    gone = Gone(faulty)
    faulty.add_waitable(gone)
    wait_for(lambda: gone.taken >= 2, "an executor that goes on")
    faulty.remove_waitable(gone)
    assert faulty.errors_survived == 0


def test_who_asks_is_told_that_it_failed(faulty: Faulty, node: Node) -> None:
    for name in ("plain", "coroutine"):
        answer = ask(node, Trigger, name, Trigger.Request())
        assert not answer.success and "KeyError('plain')" in answer.message
    loaded = ask(node, LoadScene, "load", LoadScene.Request())
    assert loaded.code == LoadScene.Response.FAILED and "KeyError" in loaded.message
    change = ParameterMessage(name="use_sim_time", value=ParameterValue(type=1, bool_value=False))
    many = ask(
        node, SetParameters, "faulty/set_parameters", SetParameters.Request(parameters=[change] * 2)
    )
    assert [result.successful for result in many.results] == [False, False]
    atomic = SetParametersAtomically.Request(parameters=[change])
    answer = ask(node, SetParametersAtomically, "faulty/set_parameters_atomically", atomic)
    assert not answer.result.successful and "parameters" in answer.result.reason
    faulty.is_well = True
    assert ask(node, Trigger, "coroutine", Trigger.Request()).success


def test_a_goal_whose_callback_raises_is_answered(ros_context: Any) -> None:
    """rclpy's own answer to that would be an empty one."""

    class Goal:
        is_active = True

        @property
        def request(self) -> Any:
            raise ZeroDivisionError("nobody expected this")

        def abort(self) -> None:
            self.is_active = False

    node = GuardedNode("asked")
    services, goal = MapperServices(node, lambda: None), Goal()
    coroutine = services._on_goal(goal)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert (
        ended.value.value.code == ended.value.value.FAILED
        and "nobody expected" in ended.value.value.message
    )
    assert not goal.is_active and node.errors_survived == 1
    node.destroy_node()


def test_the_log_tells_every_error_but_not_every_time(
    ros_context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = GuardedNode("talkative")

    def raised(error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:
            return caught

    def other(error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:
            return caught

    for _ in range(3):
        node.survive(raised(KeyError("first")))
        node.survive(other(KeyError("second")))
        node.survive(raised(InputError("a stamp that no message can hold")))
    log = capfd.readouterr().err
    assert node.errors_survived == 9 and log.count("Traceback") == 2
    assert log.count("KeyError: 'first'") == log.count("KeyError: 'second'") == 1
    assert log.count("ignored: a stamp that no message can hold") == 1
    node.destroy_node()
