"""A corridor that leads back to its start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.ring import Ring
from vggt3_ros.worlds.room import make_rooms

RING = Ring(900_001, 40.0)


def test_the_drive_comes_back_and_goes_on_beside_its_start() -> None:
    poses = RING.drive(111, further=4.0)
    position = poses[:, :3, 3]
    way = float((position[1:] - position[:-1]).norm(dim=1).sum())
    assert way == pytest.approx(44, rel=0.1)
    again = torch.cdist(position[105:], position[:20]).amin(1)
    assert float(again.max()) < 0.6
    assert float(torch.cdist(position[30:80], position[:8]).min()) > 4
    forward = poses[:-1, :3, 2]
    step = torch.nn.functional.normalize(position[1:] - position[:-1], dim=1)
    assert float((forward * step).sum(1).min()) > 0.7


def test_nothing_stands_in_the_way() -> None:
    room = make_rooms([RING.seed], plan=RING.planner)
    position = RING.drive(111)[:, :3, 3]
    assert float(clearance(room, position[None]).min()) > 0.2


def test_the_next_floor_has_the_same_shape_and_other_things() -> None:
    first, second = (make_rooms([seed], plan=RING.planner) for seed in (900_001, 900_002))
    assert torch.equal(first.half_sizes[0, :2, :2], second.half_sizes[0, :2, :2])
    assert not torch.equal(first.centres[0, 10:30], second.centres[0, 10:30])


def test_the_middle_line_is_as_long_as_told() -> None:
    points, _ = RING.middle(np.linspace(0, 40, 4001))
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).sum() == pytest.approx(40, rel=1e-3)


@pytest.mark.parametrize("metres", [5.0, 500.0, float("nan")])
def test_other_lengths_are_refused(metres: float) -> None:
    with pytest.raises(InputError, match="20 to 200 m"):
        Ring(900_001, metres)
