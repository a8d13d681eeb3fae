"""What a map keeps of frames, in host memory: values come back right, and copies wait for what they
need and for no more.

Streams and events of a CPU do nothing, so orders are asserted of streams that note what is surely
done when each piece of work begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vggt3_ros.model.rows import _UNDERWAY, HostRows, Rows
from vggt3_ros.model.streaming import chunks

CPU = torch.device("cpu")
FRAMES, PASSES = 11, 3
Work = tuple[str, int, int]
"""A fetch, a write or a computation; of which part, by its first frame; for the how manieth
time."""


class Stream:
    """Does its work in order. `done`: what is over when its next work begins."""

    def __init__(self) -> None:
        self.done: set[Work] = set()

    def wait_event(self, event: Event) -> None:
        self.done |= event.done


class Event:
    """`done` is over when it is; nothing before it is recorded."""

    def __init__(self, host: set[Work]) -> None:
        self.host, self.done = host, set[Work]()

    def record(self, stream: Stream) -> None:
        self.done = set(stream.done)

    def synchronize(self) -> None:
        self.host |= self.done


class NotedStreams(TorchDispatchMode):
    """Stands for torch.cuda. By work, in the order in which the host asks for it: what is over when
    it begins, `before`, and what the host knows to be over, `known`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.computing = self.active = Stream()
        self.host: set[Work] = set()
        self.before: dict[Work, set[Work]] = {}
        self.known: dict[Work, set[Work]] = {}
        self.kept: Tensor | None = None  # rows whose copies are noted
        self.used: list[tuple[Tensor, Stream]] = []

    def Event(self) -> Event:
        return Event(self.host)

    def current_stream(self, device: torch.device) -> Stream:
        return self.active

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        previous, self.active = self.active, stream
        yield
        self.active = previous

    def note(self, kind: str, first: int) -> None:
        """Work of the stream that is active."""
        times = sum(one[:2] == (kind, first) for one in self.before)
        work = kind, first, times + 1
        self.active.done |= self.host  # what the host waited for, before it asked for this
        self.before[work] = set(self.active.done)
        self.known[work] = set(self.host)
        self.active.done.add(work)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kinds = {torch.ops.aten._to_copy.default: "fetch", torch.ops.aten.copy_.default: "write"}
        kept = self.kept
        if func in kinds and kept is not None:
            if args[0].untyped_storage().data_ptr() == kept.untyped_storage().data_ptr():
                self.note(kinds[func], args[0].storage_offset() // kept[0].numel())
        return func(*args, **(kwargs or {}))


class NotedRows(HostRows):
    """HostRows whose streams and events are noted."""

    def __init__(self, streams: NotedStreams) -> None:
        self.streams = streams
        super().__init__(FRAMES, (3,), CPU, torch.float32)
        streams.kept = self._data

    @property
    def _backend(self) -> Any:
        return self.streams

    def _stream(self) -> Any:
        return Stream()

    def _used_by(self, rows: Tensor, stream: Any) -> None:
        self.streams.used.append((rows, stream))


class Noted:
    """Frames as they pass when a network maps: they are written, then read and written again in
    every pass.
    """

    def __init__(self, chunk: int) -> None:
        self.parts = chunks(FRAMES, chunk)
        self.streams = NotedStreams()
        self.came: list[Tensor] = []
        self.left: list[Tensor] = []
        self.underway: list[int] = []  # writes of which the host does not know the end, after each
        self.rows = NotedRows(self.streams)
        with self.streams:
            for part in self.parts:
                self._write(part, torch.ones(part.stop - part.start, 3))
            for _ in range(PASSES):
                for part, values in zip(self.parts, self.rows.passing(self.parts), strict=True):
                    self.came.append(values)
                    self._write(part, values + 1)

    def _write(self, part: slice, values: Tensor) -> None:
        self.streams.note("compute", part.start)
        self.rows.write(part, values)
        self.left.append(values)
        self.underway.append(len(self.of("write").keys() - self.streams.host))

    def of(self, kind: str) -> dict[Work, set[Work]]:
        """What is over before each work of a kind."""
        return {work: done for work, done in self.streams.before.items() if work[0] == kind}


@pytest.fixture(scope="module", params=[2, 6], ids=["six parts", "two parts"])
def noted(request: pytest.FixtureRequest) -> Noted:
    return Noted(request.param)


def test_all_work_is_noted(noted: Noted) -> None:
    counts = {kind: len(noted.of(kind)) for kind in ("fetch", "compute", "write")}
    parts = len(noted.parts)
    written = parts * (1 + PASSES)
    assert counts == {"fetch": parts * PASSES, "compute": written, "write": written}


def test_a_part_is_fetched_when_it_was_written(noted: Noted) -> None:
    for (_, first, times), done in noted.of("fetch").items():
        assert ("write", first, times) in done


def test_what_is_computed_waits_for_the_part_to_arrive(noted: Noted) -> None:
    for (_, first, times), done in noted.of("compute").items():
        assert times == 1 or ("fetch", first, times - 1) in done


def test_a_part_is_written_when_it_was_computed_and_no_longer_read(noted: Noted) -> None:
    for (_, first, times), done in noted.of("write").items():
        assert ("compute", first, times) in done
        assert times == 1 or ("fetch", first, times - 1) in done


def test_copies_run_beside_what_is_computed(noted: Noted) -> None:
    """The next part comes before one is computed, which does not wait for the last to leave."""
    order = list(noted.streams.before)
    for part, following in pairwise(noted.parts):
        for times in range(1, PASSES + 1):
            fetch = "fetch", following.start, times
            computed = "compute", part.start, times + 1
            assert order.index(fetch) < order.index(computed)
            assert computed not in noted.streams.before[fetch]
            assert fetch not in noted.streams.before[computed]
            next_computed = "compute", following.start, times + 1
            assert ("write", part.start, times + 1) not in noted.streams.before[next_computed]


def test_parts_do_not_come_before_there_is_room(noted: Noted) -> None:
    """The host waits until the last part but two was computed."""
    for part, later in zip(noted.parts, noted.parts[3:], strict=False):
        for times in range(1, PASSES + 1):
            known = noted.streams.known["fetch", later.start, times]
            assert ("compute", part.start, times + 1) in known


def test_few_written_parts_are_on_their_way() -> None:
    assert max(Noted(chunk=2).underway) == _UNDERWAY


def test_memory_is_kept_until_the_other_stream_is_done_with_it(noted: Noted) -> None:
    used = [(id(rows), stream) for rows, stream in noted.streams.used]
    for values in noted.came:
        assert (id(values), noted.streams.computing) in used
    for values in noted.left:
        assert (id(values), noted.rows._leaving) in used


def test_the_whole_is_handed_out_when_all_parts_are_there() -> None:
    noted = Noted(chunk=2)
    writes = noted.of("write").keys()
    assert not writes <= noted.streams.host
    whole = noted.rows.whole()
    assert writes <= noted.streams.host
    assert torch.equal(whole, torch.full((FRAMES, 3), 1.0 + PASSES))


@pytest.mark.parametrize("kind", [Rows, HostRows])
@pytest.mark.parametrize("size", [1, 3, FRAMES])
def test_values_come_back_in_pass_after_pass(kind: type[Rows], size: int) -> None:
    values = torch.rand(FRAMES, 4, 5, generator=torch.Generator().manual_seed(1))
    parts = chunks(FRAMES, size)
    rows = kind(FRAMES, (4, 5), CPU, torch.bfloat16)
    for part in parts:
        rows.write(part, values[part])
    expected = values.bfloat16()
    for _ in range(PASSES):
        for part, there in zip(parts, rows.passing(parts), strict=True):
            assert torch.equal(there, expected[part])
            expected[part] = 3 * expected[part] - 1
            rows.write(part, 3 * there - 1)
        for part, there in zip(parts, rows.passing(parts), strict=True):  # and only read
            assert torch.equal(there, expected[part])
    assert torch.equal(rows.whole(), expected)
