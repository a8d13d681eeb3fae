"""Seconds that the stages of some work take."""

from __future__ import annotations

import time
from collections.abc import Callable


class Laps:
    """Seconds per stage since the one before it, of two kinds: by the clock, and of the processor
    in all threads of the process. What a stage takes several times adds up.
    """

    def __init__(self) -> None:
        self._wall = _Sums(time.perf_counter)
        self._cpu = _Sums(time.process_time)

    def lap(self, stage: str) -> None:
        """Count the time since the last lap, or the beginning, to a stage."""
        self._wall.lap(stage)
        self._cpu.lap(stage)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, and "total"."""
        return self._wall.with_total()

    @property
    def cpu_seconds(self) -> dict[str, float]:
        """Seconds of the processor by stage, and "total"."""
        return self._cpu.with_total()


class _Sums:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = now()
        self._sums: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = self._now()
        self._sums[stage] = self._sums.get(stage, 0.0) + now - self._last
        self._last = now

    def with_total(self) -> dict[str, float]:
        return {**self._sums, "total": sum(self._sums.values())}
