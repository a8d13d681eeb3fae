"""A scene extended again and again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import vggt3_ros.worlds.sequence
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.growth import Growth, grow, heading, line
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.scene.storage import load_scene


@pytest.fixture(scope="module")
def room() -> Sequence:
    """Fourteen map frames along 2.5 m."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(
            vggt3_ros.worlds.sequence.room_sequence, map_frames=14, query_frames=2, length=2.5
        )
        patch.setattr(vggt3_ros.worlds.sequence, "room_sequence", short)
        return load_sequence("room:900002")


def test_a_scene_grows_by_passing_once_more(room: Sequence, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    rows = list(grow(room, load_network("tiny"), Priors("given"), folder, new=7))
    assert [(row.keyframes, row.new, row.reason) for row in rows] == [(7, 7, "")]
    row = rows[0]
    assert row.found >= 3 and row.error_m is not None and row.error_m < 0.02
    assert {"localize", "map", "join", "memory", "total"} == set(row.seconds)
    scene = load_scene(folder)
    assert len(scene.keyframes) == 14 and row.landmarks == len(scene.landmarks["positions"])
    assert len(heading()) == len(line(row))


def test_a_refusal_is_a_line_of_the_table() -> None:
    assert "refused: 3 are needed" in line(Growth(8, 6, reason="3 are needed"))


@pytest.mark.parametrize("new", [0, 8])
def test_a_drive_too_short_to_grow_is_refused(room: Sequence, tmp_path: Path, new: int) -> None:
    growing = grow(room, load_network("tiny"), Priors("given"), tmp_path, new)
    with pytest.raises(InputError, match="has 14 map frames"):
        next(growing)
