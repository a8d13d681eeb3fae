"""The figures of `vggt3 bench graph`: from what was counted and sampled to what is reported; no ROS
in here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_MB = 1e6


@dataclass(frozen=True)
class NodeCounts:
    """What a node has counted since it was activated. reasons: the images that it left out, by
    reason.
    """

    received: int
    left_out: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Images that the camera had sent at one moment, and the counts of the nodes by their names."""

    sent: int
    counts: Mapping[str, NodeCounts]


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of one core since its start, and the bytes of memory that it
    holds.
    """

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True)
class Sample:
    """What the processes, by their names, had used at one moment (seconds of any clock).

    busy_s: seconds that all cores of the machine together have been busy, for whatever program.
    """

    time_s: float
    usage: Mapping[str, Usage]
    busy_s: float


@dataclass(frozen=True)
class MessageFigures:
    """Images between two moments: sent by the camera, received by a node, lost in transit, and left
    out by the node; `reasons` counts the latter by reason.
    """

    sent: int
    received: int
    lost: int
    left_out: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class ProcessFigures:
    """What a process needs. cores: fraction of a core. rss_mb_begin, rss_mb_end: megabytes of
    memory at the first and the last sample; rss_mb: at every one. rss_mb_per_minute: their growth
    after a warm-up.
    """

    cores: float
    rss_mb_begin: float
    rss_mb_end: float
    rss_mb_per_minute: float
    rss_mb: Sequence[float]


@dataclass(frozen=True)
class Spread:
    """Median, the value that 90 % stay below, and the largest; None where there are no values."""

    median: float | None
    p90: float | None
    max: float | None


def messages(before: Snapshot, after: Snapshot) -> dict[str, MessageFigures]:
    """The images between two moments, by node."""
    sent = after.sent - before.sent
    figures = {}
    for name, late in after.counts.items():
        early = before.counts.get(name, NodeCounts(0, 0))
        received = late.received - early.received
        reasons = {
            reason: count - early.reasons.get(reason, 0) for reason, count in late.reasons.items()
        }
        figures[name] = MessageFigures(
            sent=sent,
            received=received,
            lost=sent - received,
            left_out=late.left_out - early.left_out,
            reasons={reason: count for reason, count in reasons.items() if count},
        )
    return figures


def processes(samples: Sequence[Sample]) -> dict[str, ProcessFigures]:
    """The figures of each process by its name.

    Two samples at least, evenly spaced. The growth is that of the largest size from the second
    third of the time to the last one: with what they are working at, processes grow and shrink all
    the time.
    """
    first = samples[0]
    last = samples[-1]
    third = max(1, len(samples) // 3)
    minutes = (last.time_s - first.time_s) / 3 / 60
    figures = {}
    for name in first.usage:
        early = first.usage[name]
        late = last.usage[name]
        sizes = [sample.usage[name].rss_bytes for sample in samples]
        grown = max(sizes[-third:]) - max(sizes[-2 * third : -third])
        figures[name] = ProcessFigures(
            cores=(late.cpu_s - early.cpu_s) / (last.time_s - first.time_s),
            rss_mb_begin=early.rss_bytes / _MB,
            rss_mb_end=late.rss_bytes / _MB,
            rss_mb_per_minute=grown / _MB / minutes,
            rss_mb=[round(size / _MB, 1) for size in sizes],
        )
    return figures


def other_programs(samples: Sequence[Sample]) -> float:
    """How many cores were busy for programs that are not ours, from the first to the last
    sample.
    """
    first = samples[0]
    last = samples[-1]
    ours = sum(last.usage[name].cpu_s - usage.cpu_s for name, usage in first.usage.items())
    return max(0.0, (last.busy_s - first.busy_s - ours) / (last.time_s - first.time_s))


def spread(values: Iterable[float]) -> Spread:
    """The spread of values, of which there may be none."""
    numbers = np.array([*values], dtype=np.float64)
    if len(numbers) == 0:
        return Spread(None, None, None)
    return Spread(
        median=float(np.median(numbers)),
        p90=float(np.quantile(numbers, 0.9)),
        max=float(numbers.max()),
    )
