"""Signals that end a program: kept, or taken at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from vggt3_ros.interrupts import Interrupts


def send(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_before() -> Iterator[None]:
    """Signals that no `Interrupts` takes fail the test instead of ending pytest."""

    def fail(number: int, frame: object) -> None:
        raise AssertionError(f"signal {number} reached the handler from before")

    before = {number: signal.signal(number, fail) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_first_signal_is_kept_and_second_interrupts() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        send()
        assert interrupts.came()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGHUP)


def test_second_signal_within_the_time_of_one_wish_is_ignored() -> None:
    with Interrupts(same_wish_s=60.0) as interrupts:
        send()
        send()
        assert interrupts.came()


def test_signals_that_may_not_wait_interrupt_at_once() -> None:
    with Interrupts(may_wait=False), pytest.raises(KeyboardInterrupt):
        send()


def test_handlers_from_before_are_back_afterwards() -> None:
    with Interrupts():
        pass
    with pytest.raises(AssertionError, match="from before"):
        send()


def test_signals_that_were_not_named_are_left_alone() -> None:
    with Interrupts((signal.SIGTERM,)), pytest.raises(AssertionError, match="from before"):
        send(signal.SIGHUP)
