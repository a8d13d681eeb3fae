"""Seconds that a network spends in each of its stages, reported by its progress."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

import torch


class StageClock:
    """Progress callback that notes when stages end, on a GPU without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._ends: list[tuple[str, Any]] = [("", self._now())]

    def __call__(self, stage: str, fraction: float) -> None:
        """Note that `stage` has ended; `fraction` is not used."""
        self._ends.append((stage, self._now()))

    def seconds(self) -> dict[str, float]:
        """By stage; what comes after the last one reported is left out. On a GPU, wait for its work
        first.
        """
        taken: dict[str, float] = defaultdict(float)
        for (_, before), (stage, end) in pairwise(self._ends):
            taken[stage] += before.elapsed_time(end) / 1000 if self._on_gpu else end - before
        return dict(taken)

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
