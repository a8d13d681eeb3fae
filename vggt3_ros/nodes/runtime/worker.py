"""The thread that does a node's heavy work, so that callbacks never block."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

from rclpy.node import Node
from rclpy.task import Future as RosFuture

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker(Generic[Item]):
    """Handles items one after the other in a thread of its own; of those that wait, the oldest give
    way to new ones.

    What `handle(item)` raises goes to `failed(error)`, and the next item is handled: nobody else
    would notice that the thread has ended. `dropped(item)` is called for every item that gave way.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Item], None],
        capacity: int,
        dropped: Callable[[Item], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._handle = handle
        self._dropped = dropped
        self._failed = failed
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._handling = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item; where more than `capacity` wait, the oldest is dropped. Never blocks."""
        with self._changed:
            self._items.append(item)
            gone = self._items.popleft() if len(self._items) > self._capacity else None
            self._changed.notify()
        if gone is not None:
            self._dropped(gone)

    def post(self, function: Callable[[], None]) -> None:
        """Run a function in the thread, before the items that wait; what it raises goes to
        `failed`.
        """

        def run() -> None:
            try:
                function()
            except BaseException as error:  # see _run
                self._tell(error)

        self.call(run)

    @property
    def is_idle(self) -> bool:
        """Whether no item waits or is being handled."""
        with self._changed:
            return not (self._items or self._handling)

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run a function in the thread, before the items that wait; its result or error is in the
        future.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._stopping:
                future.cancel()
                return future
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Finish what is being done, forget the rest, end the thread."""
        with self._changed:
            self._stopping = True
            self._items.clear()
            for _, future in self._calls:
                future.cancel()
            self._calls.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._calls or self._items)
                if self._stopping:
                    return
                self._handling = not self._calls
                if self._calls:
                    todo = partial(_fulfil, *self._calls.popleft())
                else:
                    todo = partial(self._take, self._items.popleft())
            todo()
            with self._changed:
                self._handling = False

    def _take(self, item: Item) -> None:
        try:
            self._handle(item)
        except BaseException as error:  # libraries in Rust panic with what is no Exception
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        try:
            self._failed(error)
        except Exception:
            traceback.print_exc()


def in_executor(node: Node, future: Future[Any]) -> Any:
    """A future that a node's coroutine can await; its result is the given one, once that is
    done.
    """
    executor = node.executor
    bridged: RosFuture = RosFuture(executor=executor)

    def tell(done: Future[Any]) -> None:
        bridged.set_result(done)
        if executor is not None:
            # it would look at coroutines that wait only when the next message comes
            executor.wake()

    future.add_done_callback(tell)
    return bridged


def _fulfil(function: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # see _run
        future.set_exception(error)
