"""Maps of halves joined, beside the map made at once."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import vggt3_ros.worlds.sequence
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.halves import Half, halves, heading, line, strangers, totals
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.model.checkpoint import load_network


@pytest.fixture(scope="module")
def room() -> Sequence:
    """Ten map frames along 2.5 m, four queries."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(
            vggt3_ros.worlds.sequence.room_sequence, map_frames=10, query_frames=4, length=2.5
        )
        patch.setattr(vggt3_ros.worlds.sequence, "room_sequence", short)
        return load_sequence("room:900002")


def test_joined_maps_are_worth_what_one_made_at_once_is(room: Sequence) -> None:
    rows = {row.way: row for row in halves(room, load_network("tiny"), Priors("given"))}
    assert list(rows) == ["first", "second", "merged", "extended", "at once"]
    assert rows["first"].keyframes == rows["second"].keyframes == 6
    at_once = rows["at once"]
    assert at_once.keyframes == 10 and at_once.accepted >= 3
    for way in ("merged", "extended"):
        row = rows[way]
        assert row.keyframes == 12 and row.reason == "" and row.wrong == 0
        assert row.accepted >= at_once.accepted - 1
        assert row.position_m is not None and row.position_m < 0.02
    assert "merged" in line(rows["merged"]) and heading().startswith("place")


def test_a_place_that_wears_the_same_textures_is_refused(room: Sequence) -> None:
    assert "keyframes" in strangers(room, load_network("tiny"), Priors("given"))


def test_totals_count_queries_and_average_medians() -> None:
    rows = [
        Half("a", "merged", asked=4, accepted=3, wrong=1, position_m=0.01, rotation_deg=0.1),
        Half("b", "merged", asked=4, accepted=2, position_m=0.03, rotation_deg=0.3, network_m=0.5),
        Half("c", "merged", reason="apart", asked=4),
    ]
    found = totals(rows)["merged"]
    assert found == {
        "places": 3,
        "asked": 12,
        "accepted": 5,
        "wrong": 1,
        "position_m": pytest.approx(0.02),
        "rotation_deg": pytest.approx(0.2),
        "network_m": pytest.approx(0.5),
        "network_deg": pytest.approx(np.nan, nan_ok=True),
    }
    assert line(rows[2]).endswith("apart")
