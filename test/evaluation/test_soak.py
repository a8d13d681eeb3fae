"""The soak's places are many-sided and damaged as their names say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import vggt3_ros.evaluation.soak
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.soak import Place, damaged, report, soak
from vggt3_ros.evaluation.trials import Outcome


def test_a_hundred_and_eight_places_are_every_combination_once() -> None:
    kinds = Counter(
        (place.kind, place.frames, str(place.priors), place.damage)
        for place in map(Place, range(108))
    )
    assert len(kinds) == 108
    assert len({Place(number).seed for number in range(324)}) == 324


@pytest.mark.parametrize(("damage", "count"), [("none", 0), ("black", 2), ("foreign", 2)])
def test_a_few_frames_show_nothing_or_something_else(damage: str, count: int) -> None:
    images, strangers = np.full((16, 6, 8, 3), 50, np.uint8), np.full((4, 6, 8, 3), 99, np.uint8)
    frames = damaged(damage, images, strangers)
    assert [index for index, _ in frames] == list(range(16))
    instead = [int(image.mean()) for _, image in frames if image.mean() != 50]
    assert len(instead) == count and set(instead) <= {2 if damage == "black" else 99}


def test_doubled_frames_are_there_twice_in_a_row() -> None:
    images = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((6, 8, 3), np.uint8)
    frames = damaged("doubled", images, images)
    indices = [index for index, _ in frames]
    assert len(indices) == 18 and indices == sorted(indices) and len(set(indices)) == 16
    assert all((image == index).all() for index, image in frames)


def test_a_place_ends_in_an_outcome(small_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggt3_ros.evaluation.soak, "_SIZE", (64, 48))
    outcome = soak(0, small_network)
    assert (
        outcome.name == "0/room-8/given/none" and outcome.asked == 8 and outcome.traceback is None
    )
    with pytest.raises(InputError, match="from 0"):
        soak(-1, small_network)


def test_a_report_lists_tracebacks_and_wrong_poses() -> None:
    outcomes = [
        Outcome("0/room", 8, False, "ValueError: x", 8, traceback="Traceback\nValueError: x"),
        Outcome("1/yard", 8, True, "fine", 8, 3, 2, 1, failures=("009: 1.20 m, 3.0 deg",)),
    ]
    text = report(outcomes)
    assert "0/room\nTraceback\nValueError: x" in text
    assert "wrong in 1/yard: 009: 1.20 m, 3.0 deg" in text
    assert "wrong accepted: 1 of 16 asked" in text and "1 ended in an error" in text
