from __future__ import annotations

import pytest

from vggt3_ros import laps
from vggt3_ros.laps import Laps


def test_what_a_stage_takes_several_times_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([10.0, 11.0, 13.0, 16.0])
    cpu = iter([1.0, 1.5, 1.5, 2.0])
    monkeypatch.setattr(laps.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(laps.time, "process_time", lambda: next(cpu))
    clock = Laps()
    for stage in ("read", "think", "read"):
        clock.lap(stage)
    assert clock.seconds == {"read": 4.0, "think": 2.0, "total": 6.0}
    assert clock.cpu_seconds == {"read": 1.0, "think": 0.0, "total": 1.0}


def test_no_stage_takes_no_time() -> None:
    assert Laps().seconds == {"total": 0}
