from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.nodes.mapper import collector as module
from vggt3_ros.nodes.mapper.collector import Collector
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.pipeline.collection import Reason
from vggt3_ros.pipeline.frame import Frame

SECOND = 10**9


class Clock:
    """What the collector takes for time.monotonic."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(**settings: Any) -> Collector:
    given = MapperParameters(
        **{"min_frames": 3, "max_frames": 100, "trigger_idle": 0.0, **settings}
    )
    return Collector(lambda: given)


def frame(number: int, stamp_ns: int | None = None, prior: bool = True) -> Frame:
    """Each number is another place, a metre from the last, that looks like no other."""
    image = (
        np.random.default_rng(number)
        .integers(0, 255, (6, 8, 3), dtype=np.uint8)
        .repeat(4, 0)
        .repeat(4, 1)
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = number
    stamp = number * SECOND if stamp_ns is None else stamp_ns
    return Frame(image, stamp, prior_world_from_cam=pose if prior else None, name=str(number))


def names(frames: tuple[Frame, ...]) -> list[str]:
    return [each.name for each in frames]


def fill(collector: Collector, *numbers: int) -> None:
    for number in numbers:
        assert collector.add(frame(number)).kept


def test_taking_the_frames_starts_over() -> None:
    collector = make()
    fill(collector, 1, 2)
    assert len(collector) == 2 and names(collector.take()) == ["1", "2"]
    assert len(collector) == 0 and collector.take() == ()
    fill(collector, 1)  # of a new collection it is the first


def test_it_says_why_a_frame_is_not_kept() -> None:
    collector = make()
    fill(collector, 1)
    assert collector.add(frame(1)).reason is Reason.DUPLICATE
    assert collector.add(frame(2, stamp_ns=0)).reason is Reason.STAMP_BACKWARDS
    collector.restart_clock()
    assert collector.add(frame(2, stamp_ns=0)).kept


def enlarged(small: Frame, rows: int, columns: int) -> Frame:
    return replace(small, image=small.image.repeat(rows, 0).repeat(columns, 1))


def test_a_camera_that_goes_on_with_another_resolution_goes_on() -> None:
    collector = make()
    fill(collector, 1, 2)
    assert (
        all(collector.add(enlarged(frame(number), 2, 2)).kept for number in (3, 4))
        and len(collector) == 4
    )


def test_a_camera_that_goes_on_with_another_shape_starts_it_over() -> None:
    collector = make()
    fill(collector, 1, 2)
    refused = [collector.add(enlarged(frame(number), 2, 1)) for number in range(3, 12)]
    assert {result.reason for result in refused} == {Reason.SIZE_CHANGED} and len(collector) == 2
    result = collector.add(enlarged(frame(12), 2, 1))
    assert (result.kept, result.gone) == (True, 2) and names(collector.take()) == ["12"]


def test_frames_that_no_odometry_placed_are_counted() -> None:
    collector = make()
    fill(collector, 1)
    assert collector.without_prior == 0
    collector.add(frame(2, prior=False))
    assert collector.without_prior == 1
    collector.clear()
    assert (len(collector), collector.without_prior) == (0, 0)


def test_it_is_due_at_so_many_frames(clock: Clock) -> None:
    collector = make(trigger_count=4)
    fill(collector, 1, 2, 3)
    clock.now += 1000
    assert collector.due(standing_still=True) is None
    fill(collector, 4)
    assert collector.due(standing_still=True) == "4 keyframes were collected"
    collector.take()
    assert collector.due(standing_still=True) is None


def test_it_is_due_when_nothing_new_was_seen_for_long(clock: Clock) -> None:
    collector = make(trigger_idle=5.0)
    fill(collector, 1, 2)
    clock.now += 6
    assert collector.due(standing_still=True) is None, "less than min_frames"
    fill(collector, 3)
    clock.now += 4.9
    assert collector.due(standing_still=True) is None
    assert not collector.add(frame(3)).kept  # the same again is nothing new
    clock.now += 0.2
    assert collector.due(standing_still=True) == "nothing new was seen for 5.1 s"


def test_time_in_which_nobody_looked_does_not_count(clock: Clock) -> None:
    collector = make(trigger_idle=5.0)
    fill(collector, 1, 2, 3)
    clock.now += 60
    collector.restart_idle_time()
    assert collector.due(standing_still=True) is None
    clock.now += 6
    assert collector.due(standing_still=True) is not None


def test_frames_that_come_back_go_before_those_that_came_meanwhile() -> None:
    collector = make()
    fill(collector, 1, 2)
    taken = collector.take()
    fill(collector, 3, 4)
    collector.give_back(taken)
    assert names(collector.take()) == ["1", "2", "3", "4"]


def test_no_frame_gets_lost_when_the_clock_was_set_back_meanwhile() -> None:
    collector = make()
    fill(collector, 101, 102)
    taken = collector.take()
    collector.restart_clock()
    fill(collector, 1, 2)
    collector.give_back(taken)
    assert len(collector) == 4


@pytest.mark.parametrize("trigger", [{"trigger_count": 3}, {"trigger_idle": 5.0}])
def test_after_a_failure_it_is_due_only_when_more_has_come(
    clock: Clock, trigger: dict[str, Any]
) -> None:
    collector = make(**trigger)
    fill(collector, 1, 2, 3)
    collector.give_back(collector.take())
    clock.now += 60
    assert collector.due(standing_still=True) is None
    fill(collector, 4, 5)
    clock.now += 60
    assert collector.due(standing_still=True) is None
    fill(collector, 6)
    clock.now += 60
    assert collector.due(standing_still=True) is not None


def test_a_full_collection_gets_another_chance_too(clock: Clock) -> None:
    collector = make(max_frames=4, trigger_idle=5.0)
    fill(collector, 1, 2, 3, 4)
    collector.give_back(collector.take())
    kept = sum(collector.add(frame(number)).kept for number in range(5, 60))
    assert kept >= 3 and len(collector) <= 4
    clock.now += 60
    assert collector.due(standing_still=True) is not None or len(collector) < 3
