"""Drives that are made on the spot."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.datasets.drives import FLOOR_M, next_floor
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.errors import InputError


def test_a_drive_has_frames_to_map_and_queries_between() -> None:
    sequence = load_sequence("ring:1:20:12")
    split = sequence.split()
    assert split.map == tuple(range(0, 23, 2))
    assert set(split.query) <= set(range(1, 23, 2))
    assert sequence.read_image(0).shape == (240, 320, 3)
    assert sequence.read_image(0).std() > 10


def test_by_default_there_is_a_frame_every_half_metre() -> None:
    assert len(load_sequence("ring:1:40").split().map) == 88


def test_floors_come_back_to_another_one() -> None:
    below = load_sequence("ring:1:20:12")
    floors = load_sequence("floors:1:20:12")
    last = len(floors) - 1
    assert next_floor(floors, last) and not next_floor(floors, 0)
    assert not next_floor(below, last)
    up = (floors.world_from_cam - below.world_from_cam)[:, 2, 3]
    assert float(up[0]) == 0 and float(up[-1]) == pytest.approx(FLOOR_M)
    np.testing.assert_array_equal(floors.read_image(0), below.read_image(0))
    assert not np.array_equal(floors.read_image(last), below.read_image(last))


@pytest.mark.parametrize("spec", ["ring:", "ring:1", "ring:1:5", "ring:1:40:3", "ring:x:40"])
def test_other_drives_are_refused(spec: str) -> None:
    with pytest.raises(InputError):
        load_sequence(spec)
