"""Splits, and places that are no sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split, standard_splits
from vggt3_ros.errors import InputError

from ..evaluation.oracle import arc_sequence


def test_unknown_places_are_refused_with_the_known_layouts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; a sequence is a folder with poses.txt"):
        load_sequence(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="not a sequence with true poses"):
        load_sequence(str(tmp_path))


def test_splits_can_be_limited_to_evenly_spaced_frames() -> None:
    split = Split(tuple(range(0, 20, 2)), tuple(range(1, 20, 2)))
    assert split.limited(3, None) == Split((0, 8, 18), split.query)
    assert split.limited(None, 1) == Split(split.map, (1,))
    assert split.limited(99, 99) == split
    with pytest.raises(InputError, match="limited to 1 frame or more, got 0"):
        split.limited(0, None)


def test_few_frames_have_no_standard_split() -> None:
    assert standard_splits(range(3)) == {}


def test_frames_need_names_of_their_own() -> None:
    with pytest.raises(InputError, match="two frames have the same name"):
        replace(arc_sequence(), names=("a",) * 7)


def test_every_frame_needs_a_pose() -> None:
    sequence = arc_sequence()
    with pytest.raises(InputError, match="7 frames need poses"):
        replace(sequence, world_from_cam=sequence.world_from_cam[:6])
