"""A room whose furniture is moved: what a refreshed map leaves out, beside the truth."""

from __future__ import annotations

from functools import partial

import pytest

import vggt3_ros.worlds.sequence
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation import changes as module
from vggt3_ros.evaluation.changes import Asked, TakenOut, changes, line, totals
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.model.checkpoint import load_network


def test_what_was_moved_is_taken_out_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    short = partial(
        vggt3_ros.worlds.sequence.room_sequence, map_frames=8, query_frames=2, length=2.5
    )
    monkeypatch.setattr(vggt3_ros.worlds.sequence, "room_sequence", short)
    monkeypatch.setattr(module, "_ASKED", 2)
    room = load_sequence("room:900018")
    rows = list(changes(room, load_network("tiny"), Priors("given"), views=10))
    asked = {row.when: row for row in rows if isinstance(row, Asked)}
    taken = {row.drive: row for row in rows if isinstance(row, TakenOut)}
    assert list(asked) == ["as made", "moved", "refreshed"]
    assert all(row.asked == 2 and row.wrong == 0 for row in asked.values())
    assert asked["refreshed"].landmarks < asked["moved"].landmarks == asked["as made"].landmarks
    assert taken["nothing moved"].taken_out <= 0.01 * taken["nothing moved"].landmarks
    moved = taken["moved"]
    assert moved.taken_out > 20 and moved.on_moved + moved.hidden >= 0.8 * moved.taken_out
    assert "on moved furniture" in line(moved) and "accepted" in line(asked["moved"])
    with pytest.raises(InputError, match="procedural rooms alone"):
        next(changes(load_sequence("corridor:3:2"), None, Priors("given")))


def test_totals_are_sums_over_rooms() -> None:
    rows = [
        Asked("a", "moved", 100, 16, 12, 1, 0.01, 0.1),
        Asked("b", "moved", 50, 16, 14, 0, 0.03, 0.3),
        TakenOut("a", "moved", 48, 100, 10, 9, 1, 20, 0),
        TakenOut("b", "moved", 48, 50, 10, 5, 0, 15, 1),
        TakenOut("b", "nothing moved", 48, 50, 0, 0, 0, 0, 0, "nothing of b has gone"),
    ]
    found = totals(rows)
    assert found["moved"]["accepted"] == 26 and found["moved"]["wrong"] == 1
    assert found["moved"]["position_m"] == pytest.approx(0.02)
    taken = found["taken out, moved"]
    assert taken["precision"] == pytest.approx(14 / 20) and taken["recall"] == pytest.approx(0.4)
    assert line(rows[4]).endswith("has gone")
