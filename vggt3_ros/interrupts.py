"""How a program ends on SIGINT, SIGTERM and SIGHUP. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ALL = (*ENDING_SIGNALS, signal.SIGHUP)


class Interrupts:
    """Between `install` and `restore`, or while entered, the first signal is kept until the program
    asks for it; the second one raises KeyboardInterrupt at once. For the main thread.

    `signals`: which ones. `same_wish_s`: seconds after the first one in which another is ignored.
    `may_wait`: while it is False, the first one raises KeyboardInterrupt at once, too.
    """

    def __init__(
        self,
        signals: Sequence[signal.Signals] = _ALL,
        same_wish_s: float = 0.0,
        may_wait: bool = True,
    ) -> None:
        self.may_wait = may_wait
        self._signals = signals
        self._same_wish_s = same_wish_s
        self._first: float | None = None  # of time.monotonic()
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over from the handlers that there are."""
        self._before = {number: signal.signal(number, self._take) for number in self._signals}

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __enter__(self) -> Interrupts:
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        self.restore()

    def came(self) -> bool:
        """Whether there was a signal."""
        return self._first is not None

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a signal."""
        if self.came():
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            if not self.may_wait:
                raise KeyboardInterrupt
        elif now - self._first >= self._same_wish_s:
            raise KeyboardInterrupt


def end_at_once() -> None:
    """From now on, until other handlers are installed, a signal ends the process with exit code 0
    and without a word.

    Importing torch takes seconds, in which there is nothing to be put in order. An exception would
    not do: it may come up in the middle of foreign code that takes it for an error of its own.
    """
    for number in ENDING_SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)
