"""What a step of `vggt3 bench gpu` is given: the device, the sizes, the time it has, and where its
rows go.
"""

from __future__ import annotations

import gc
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from vggt3_ros.cli.bench.gpu.results import Row
from vggt3_ros.cli.bench.gpu.sizes import Sizes
from vggt3_ros.training.stopwatch import Stopwatch

_MIN_RUNS = 3
_MAX_RUNS = 5000


@dataclass(frozen=True)
class Bench:
    """One step's work order. `record` keeps a row at once, whatever happens to the step after
    it.
    """

    device: torch.device
    sizes: Sizes
    deadline: float  # of time.monotonic()
    send: Callable[[Row], None]
    # measured rates: bytes/s of "copy", FLOP/s of "bf16"
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that the step has left."""
        return self.deadline - time.monotonic()

    def record(self, name: str, text: str, **figures: Any) -> None:
        """Keep a row: its name, a line for people, and data for programs."""
        self.send({"name": name, "text": text, **figures})

    def fits(self, name: str, seconds: float) -> bool:
        """Whether there is time for what takes so many seconds; a row says so where there is
        not.
        """
        if seconds < self.left:
            return True
        reason = (
            f"left out: it would take {seconds:.0f} s, and {max(0.0, self.left):.0f} s are left"
        )
        self.record(name, reason, skipped=reason)
        return False

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do one row's work; a fault is a row, and the end of the step only where the device is
        broken.
        """
        from vggt3_ros.cli.main import is_out_of_memory

        try:
            work()
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            if is_out_of_memory(error):
                self.record(name, "out of memory", error=first)
            else:
                self.record(
                    name,
                    f"NOT OK: {type(error).__name__}: {first}",
                    ok=False,
                    error=traceback.format_exc(),
                )
            self.synchronize()
        self.free()

    def of_ceiling(self, rate: float, of: str) -> str:
        """A rate as a fraction of the measured ceiling `of`, for people; empty where that was not
        measured.
        """
        return (
            f", {100 * rate / self.ceilings[of]:.0f} % of the {of} ceiling"
            if of in self.ceilings
            else ""
        )

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Hand memory back that nobody needs, and count the peak anew."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            if hasattr(torch._C, "_host_emptyCache"):  # page-locked
                torch._C._host_emptyCache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int | None:
        """The most that was allocated on a GPU since `free`; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def time(self, work: Callable[[], object]) -> float:
        """Seconds of something long, done once, as a user waits for it."""
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - began

    def seconds(self, work: Callable[[], object]) -> list[float]:
        """How long the work takes on the device, once after another for about `sizes.moment_s`
        seconds.

        It runs once beforehand, so that kernels are loaded and memory is there.
        """
        work()
        self.synchronize()
        end = time.monotonic() + min(self.sizes.moment_s, max(0.0, self.left))
        taken: list[float] = []
        while len(taken) < _MIN_RUNS or (time.monotonic() < end and len(taken) < _MAX_RUNS):
            taken.append(self._once(work))
        return taken

    def _once(self, work: Callable[[], object]) -> float:
        with Stopwatch(self.device) as stopwatch:
            work()
        return stopwatch.seconds()


def median_and_spread(taken: list[float]) -> tuple[float, float]:
    """Median, and how far the middle half of all lies apart, both in seconds."""
    if len(taken) < 4:
        return statistics.median(taken), max(taken) - min(taken)
    quarters = statistics.quantiles(taken, n=4)
    return quarters[1], quarters[2] - quarters[0]
