"""What is kept of every frame while a network maps: rows of a tensor, on its device or in host
memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_UNDERWAY = 2  # groups of rows that may be on their way to the host: each holds device memory


class Rows:
    """A row a frame, (S, ...), on the device that computes."""

    def __init__(
        self, frames: int, shape: Sequence[int], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device = device
        self._data = torch.empty(frames, *shape, dtype=dtype, device=device)

    def passing(self, parts: Sequence[slice]) -> Iterator[Tensor]:
        """The rows of one part after another, on the device. They may be written meanwhile."""
        return (self._data[part] for part in parts)

    def of(self, chosen: Tensor) -> Tensor:
        """Some rows, by their numbers (K,), on the device."""
        return self._data[chosen]

    def write(self, part: slice, values: Tensor) -> None:
        """Replace rows, rounded to the type that is kept."""
        self._data[part] = values

    def whole(self) -> Tensor:
        """All rows, where they are kept."""
        return self._data


class HostRows(Rows):
    """Rows in host memory, page-locked for a GPU. Copies run beside what the device computes: the
    next part is on its way while one is worked on, and written parts leave behind it.
    """

    def __init__(
        self, frames: int, shape: Sequence[int], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device = device
        self._on_gpu = device.type == "cuda"
        self._data = torch.empty(frames, *shape, dtype=dtype, pin_memory=self._on_gpu)
        self._coming, self._leaving = (self._stream() for _ in range(2))
        self._left: dict[int, Any] = {}  # by a part's first frame: when it is in host memory
        self._underway: deque[Any] = deque()  # the same of the last writes

    def passing(self, parts: Sequence[slice]) -> Iterator[Tensor]:
        """As Rows.passing; every part is a copy, and no more than three are on the device."""
        following = self._fetch(parts[0])
        passed: list[Any] = []  # when the device is done with each part
        for number in range(len(parts)):
            rows, arrived = following
            if number + 1 < len(parts):
                if number > 1:  # one more is queued, so that the device need not wait
                    passed[number - 2].synchronize()
                following = self._fetch(parts[number + 1])
            current = self._backend.current_stream(self.device)
            current.wait_event(arrived)
            self._used_by(rows, current)
            yield rows
            passed.append(self._event(self._backend.current_stream(self.device)))

    def of(self, chosen: Tensor) -> Tensor:
        """As Rows.of, once all that was written is there."""
        return self.whole()[chosen.cpu()].to(self.device)

    def write(self, part: slice, values: Tensor) -> None:
        """As Rows.write. The host waits for earlier parts when too many are on their way."""
        values = values.to(self._data.dtype)
        there = self._event(self._backend.current_stream(self.device))
        with self._backend.stream(self._leaving):
            self._leaving.wait_event(there)
            self._data[part].copy_(values, non_blocking=self._on_gpu)
            self._used_by(values, self._leaving)
            self._left[part.start] = self._event(self._leaving)
        self._underway.append(self._left[part.start])
        if len(self._underway) > _UNDERWAY:
            self._underway.popleft().synchronize()

    def whole(self) -> Tensor:
        """All rows, in host memory."""
        for left in self._left.values():
            left.synchronize()
        return self._data

    @property
    def _backend(self) -> Any:
        """Streams and events; those of a CPU do nothing."""
        return torch.cuda if self._on_gpu else torch.cpu

    def _stream(self) -> Any:
        return torch.cuda.Stream(self.device) if self._on_gpu else torch.cpu.Stream()

    def _fetch(self, part: slice) -> tuple[Tensor, Any]:
        with self._backend.stream(self._coming):
            if part.start in self._left:
                self._coming.wait_event(self._left[part.start])
            rows = self._data[part].to(self.device, non_blocking=self._on_gpu, copy=True)
            return rows, self._event(self._coming)

    def _event(self, stream: Any) -> Any:
        event = self._backend.Event()
        event.record(stream)
        return event

    def _used_by(self, rows: Tensor, stream: Any) -> None:
        """Their memory is not given to others before the stream has passed this point."""
        if self._on_gpu:
            rows.record_stream(stream)
