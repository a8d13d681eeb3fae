"""How long work takes on the device that does it, without waiting for it."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Adds up the seconds of the blocks that it is the context of: by events on a GPU, by the clock
    elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._total = 0.0
        self._began = 0.0
        self._pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> Stopwatch:
        if self._on_gpu:
            pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            pair[0].record()
            self._pairs.append(pair)
        else:
            self._began = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        if self._on_gpu:
            self._pairs[-1][1].record()
        else:
            self._total += time.perf_counter() - self._began

    def seconds(self) -> float:
        """All blocks so far; on a GPU this waits for them."""
        for start, end in self._pairs:
            end.synchronize()
            self._total += start.elapsed_time(end) / 1000
        self._pairs.clear()
        return self._total
