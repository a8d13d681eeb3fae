from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from rclpy.node import Node
from std_srvs.srv import Trigger

from vggt3_ros.nodes.runtime.worker import Worker, in_executor

from ..patience import PATIENCE_S
from .processes import wait_for


class Desk:
    """A worker whose first item, "block", occupies it until `unblock` is set."""

    def __init__(self, capacity: int) -> None:
        self.handled: list[str] = []
        self.dropped: list[str] = []
        self.failures: list[Exception] = []
        self.blocked, self.unblock = threading.Event(), threading.Event()
        self.worker = Worker(
            "desk", self._handle, capacity, self.dropped.append, self.failures.append
        )

    def _handle(self, item: str) -> None:
        if item == "block":
            self.blocked.set()
            assert self.unblock.wait(PATIENCE_S)
        if item == "bad":
            raise ValueError(item)
        self.handled.append(item)

    def put(self, *items: str) -> None:
        for item in items:
            self.worker.put(item)
            if item == "block":
                assert self.blocked.wait(PATIENCE_S)

    def finish(self, items: int) -> None:
        """Handle all that waits, so many items in all."""
        self.unblock.set()
        wait_for(
            lambda: len(self.handled) + len(self.failures) == items,
            "the items to be handled",
        )


@pytest.fixture
def desk() -> Iterator[Callable[[int], Desk]]:
    made: list[Desk] = []

    def make(capacity: int) -> Desk:
        made.append(Desk(capacity))
        return made[-1]

    yield make
    for each in made:
        each.unblock.set()
        each.worker.stop()


def test_items_are_handled_in_order(desk: Callable[[int], Desk]) -> None:
    ours = desk(10)
    ours.put("a", "b", "c")
    ours.finish(3)
    assert ours.handled == ["a", "b", "c"] and ours.dropped == []


def test_the_oldest_that_wait_give_way(desk: Callable[[int], Desk]) -> None:
    ours = desk(2)
    ours.put("block", "a", "b", "c", "d")
    assert ours.dropped == ["a", "b"], "told at once"
    ours.finish(3)
    assert ours.handled == ["block", "c", "d"]


def test_an_item_that_fails_does_not_stop_the_others(desk: Callable[[int], Desk]) -> None:
    ours = desk(10)
    ours.put("a", "bad", "b")
    ours.finish(3)
    assert ours.handled == ["a", "b"] and [str(error) for error in ours.failures] == ["bad"]


def test_a_call_comes_before_the_items_that_wait_and_never_gives_way(
    desk: Callable[[int], Desk],
) -> None:
    ours = desk(1)
    ours.put("block")
    call = ours.worker.call(lambda: tuple(ours.handled))
    ours.put("a", "b")
    ours.unblock.set()
    assert call.result(PATIENCE_S) == ("block",)
    ours.finish(2)
    assert ours.handled == ["block", "b"]


def test_what_a_call_raises_is_in_its_future(desk: Callable[[int], Desk]) -> None:
    ours = desk(1)

    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        ours.worker.call(fail).result(PATIENCE_S)
    ours.put("a")
    ours.finish(1)
    assert ours.handled == ["a"]


def test_stopping_finishes_what_is_being_done_and_forgets_the_rest(
    desk: Callable[[int], Desk],
) -> None:
    ours = desk(10)
    ours.put("block", "a")
    waiting = ours.worker.call(lambda: 1)
    stopper = threading.Thread(target=ours.worker.stop)
    stopper.start()
    while not waiting.cancelled():
        assert stopper.is_alive()
    ours.unblock.set()
    stopper.join(PATIENCE_S)
    assert not stopper.is_alive() and ours.handled == ["block"]
    assert ours.worker.call(lambda: 1).cancelled(), "nothing will ever do it"
    ours.worker.put("too late")
    ours.worker.stop()


@pytest.mark.parametrize("outcome", [7, ValueError("wrong")])
def test_a_coroutine_of_a_node_can_await_what_another_thread_does(node: Node, outcome: Any) -> None:
    begun, done = threading.Event(), Future[int]()

    async def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        begun.set()
        finished = await in_executor(node, done)
        response.success = finished is done
        response.message = str(finished.exception() or finished.result())
        return response

    node.create_service(Trigger, "wait", answer)
    client = node.create_client(Trigger, "wait")
    assert client.wait_for_service(PATIENCE_S)
    asked = client.call_async(Trigger.Request())
    answered = threading.Event()
    asked.add_done_callback(lambda _: answered.set())
    assert begun.wait(PATIENCE_S)
    time.sleep(0.3)  # the executor is asleep by then, and nothing else will wake it
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
    assert answered.wait(PATIENCE_S)
    assert (asked.result().success, asked.result().message) == (True, str(outcome))


class Panic(BaseException):
    """As libraries in Rust raise."""


def test_nothing_ends_the_thread(
    desk: Callable[[int], Desk], capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[BaseException] = []

    def handle(item: str) -> None:
        raise Panic(item)

    def failed(error: BaseException) -> None:
        told.append(error)
        raise RuntimeError("cannot tell of it either")

    worker: Worker[str] = Worker("panic", handle, 10, lambda _: None, failed)
    worker.put("a")
    worker.post(lambda: handle("b"))
    worker.put("c")
    wait_for(lambda: len(told) == 3, "all to be told of")
    assert sorted(str(error) for error in told) == ["a", "b", "c"]
    wait_for(lambda: worker.is_idle, "the worker to be idle")
    worker.stop()
    assert capfd.readouterr().err.count("RuntimeError: cannot tell of it either") == 3


def test_it_is_idle_only_when_everything_is_looked_at(desk: Callable[[int], Desk]) -> None:
    ours = desk(10)
    assert ours.worker.is_idle
    ours.put("block", "a")
    assert not ours.worker.is_idle
    ours.finish(2)
    wait_for(lambda: ours.worker.is_idle, "the worker to be idle")
