"""`vggt3 bench graph` without the graph: its figures, and wrong usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vggt3_ros.nodes.demo.bench_figures import (
    MessageFigures,
    NodeCounts,
    Sample,
    Snapshot,
    Spread,
    Usage,
    messages,
    other_programs,
    processes,
    spread,
)

Run = Callable[..., Any]
MB = 1_000_000


def test_messages_are_those_between_two_moments() -> None:
    before = Snapshot(
        100, {"mapper": NodeCounts(98, 10, {"black": 10}), "localizer": NodeCounts(100, 0)}
    )
    later = NodeCounts(155, 40, {"black": 10, "full": 30})
    after = Snapshot(160, {"mapper": later, "localizer": NodeCounts(160, 7, {"busy": 7})})
    assert messages(before, after) == {
        "mapper": MessageFigures(60, received=57, lost=3, left_out=30, reasons={"full": 30}),
        "localizer": MessageFigures(60, received=60, lost=0, left_out=7, reasons={"busy": 7}),
    }


def sample(time_s: float, cpu_s: float, megabytes: float, busy_s: float = 0.0) -> Sample:
    return Sample(time_s, {"mapper": Usage(cpu_s, int(megabytes * MB))}, busy_s)


def test_process_is_told_by_its_share_of_a_core_and_its_memory() -> None:
    figures = processes(
        [sample(1000.0, 5.0, 300.0), sample(1010.0, 8.0, 310.0), sample(1020.0, 10.0, 320.0)]
    )
    assert set(figures) == {"mapper"}
    mapper = figures["mapper"]
    assert mapper.rss_mb == [300.0, 310.0, 320.0]
    assert mapper.cores == pytest.approx(0.25)
    assert (mapper.rss_mb_begin, mapper.rss_mb_end) == pytest.approx((300.0, 320.0))
    assert mapper.rss_mb_per_minute == pytest.approx(90.0)


def growth(sizes: list[float]) -> float:
    """MB per minute, of sizes that were sampled every two seconds."""
    samples = [sample(2.0 * i, i, size) for i, size in enumerate(sizes)]
    return processes(samples)["mapper"].rss_mb_per_minute


def test_memory_that_is_taken_once_or_for_a_while_is_no_growth() -> None:
    up_and_down = [300.0, 350.0, 400.0, *[410.0, 395.0, 405.0] * 9]
    assert growth(up_and_down) == 0.0
    assert growth([size + 0.1 * i for i, size in enumerate(up_and_down)]) == pytest.approx(
        3.0, rel=0.1
    )


def test_other_programs_are_what_is_left_of_the_busy_time() -> None:
    assert (
        other_programs([sample(0.0, 1.0, 1.0, busy_s=50.0), sample(10.0, 4.0, 1.0, busy_s=60.0)])
        == 0.7
    )
    assert (
        other_programs([sample(0.0, 1.0, 1.0, busy_s=50.0), sample(10.0, 4.0, 1.0, busy_s=52.9)])
        == 0.0
    )


def test_spread_of_delays() -> None:
    assert spread(float(value) for value in range(11)) == Spread(5.0, 9.0, 10.0)
    assert spread([]) == Spread(None, None, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--size", "640"], "--size"),
        (["--size", "0x480"], "--size"),
        (["--rate", "0"], "--rate"),
        (["--seconds", "-1"], "--seconds"),
        (["--frames", "8"], "--frames"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], complaint: str, vggt3: Run) -> None:
    assert vggt3("bench", "graph", *arguments).failed_with(complaint, code=2)
