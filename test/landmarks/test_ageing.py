"""What views say of landmarks: what is missed as a whole has gone, what is hard to find has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.ageing import Examined, examine
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.sighting import Sighting

from .synthetic import synthetic_landmarks

SIDE = 20
COUNT = SIDE * SIDE
RATE = 0.75  # of the landmarks that are there and easy to find


@pytest.fixture(scope="module")
def board() -> Mask:
    """A board of 5 x 6 landmarks."""
    x, z = np.divmod(np.arange(COUNT), SIDE)
    on_board: Mask = (x >= 4) & (x < 9) & (z >= 7) & (z < 13)
    return on_board


@pytest.fixture(scope="module")
def wall(board: Mask) -> Landmarks:
    """A wall of 20 x 20 landmarks 5 cm apart, which keyframes see from about 4 m, and half a metre
    before it the board.
    """
    x, z = np.divmod(np.arange(COUNT), SIDE)
    at = np.stack([0.05 * x, -0.5 * board, 0.05 * z], axis=1)
    return replace(synthetic_landmarks(points=COUNT), positions=at.astype(np.float32))


def pose(number: int) -> Floats:
    at = np.eye(4)
    at[0, 3] = number
    return at


def view(number: int, found: Mask, likelihood: float = RATE) -> Sighting:
    likely = np.full(COUNT, likelihood)
    return Sighting.of(pose(number), np.arange(COUNT), likely, found)


def drive(views: int, gone: Mask, rate: float = RATE, hard: Mask | None = None) -> list[Sighting]:
    """Views that find what is there at a rate, and of what has gone or is hard to find, nothing."""
    rng = np.random.default_rng(0)
    there = ~gone if hard is None else ~gone & ~hard
    return [view(number, there & (rng.random(COUNT) < rate)) for number in range(views)]


def gone_in(examined: Examined) -> int:
    return int(examined.gone.sum())


def test_what_has_gone_as_a_whole_is_told_and_nothing_else(wall: Landmarks, board: Mask) -> None:
    found = examine(wall, drive(8, board))
    assert found.believed == found.views == 8 and found.looked_for.all()
    assert (found.gone & board).sum() >= 0.9 * board.sum()
    assert (found.gone & ~board).sum() <= 2
    assert gone_in(examine(wall, drive(30, np.zeros(COUNT, dtype=bool)))) == 0


def test_landmarks_that_are_hard_to_find_have_not_gone(wall: Landmarks) -> None:
    hard = np.random.default_rng(1).random(COUNT) < 0.2
    nothing = np.zeros(COUNT, dtype=bool)
    assert gone_in(examine(wall, drive(40, nothing, hard=hard))) <= 0.02 * COUNT


def test_a_landmark_by_itself_is_never_called_gone(wall: Landmarks) -> None:
    alone = np.zeros(COUNT, dtype=bool)
    alone[205] = True
    assert gone_in(examine(wall, drive(100, alone))) == 0


def test_two_views_are_too_few(wall: Landmarks, board: Mask) -> None:
    assert gone_in(examine(wall, drive(2, board))) == 0
    assert not examine(wall, drive(2, board)).looked_for.any()


def test_what_is_unlikely_to_be_seen_is_not_missed(wall: Landmarks, board: Mask) -> None:
    views = [
        replace(each, likelihood=np.where(board, 0.1, RATE).astype(np.float32))
        for each in drive(8, board)
    ]
    assert gone_in(examine(wall, views)) == 0


def test_later_finds_outweigh_misses_and_later_misses_finds(wall: Landmarks, board: Mask) -> None:
    nothing = np.zeros(COUNT, dtype=bool)
    away = drive(8, board)
    back = drive(8, nothing)
    assert gone_in(examine(wall, [*away, *back])) == 0
    assert (examine(wall, [*drive(60, nothing), *away, *away]).gone & board).sum() > 25


@pytest.mark.parametrize("rate", [0.03, 0.1])
def test_dark_blurred_and_wrong_views_say_nothing(
    wall: Landmarks, board: Mask, rate: float
) -> None:
    nothing = np.zeros(COUNT, dtype=bool)
    found = examine(wall, drive(50, board, rate))
    assert found.believed == 0 and gone_in(found) == 0
    # among many that are right, those that miss what these find do not count
    x = np.divmod(np.arange(COUNT), SIDE)[0]
    wrong = drive(10, x >= 9)  # confirmed by less than half of what should be there
    right = drive(20, nothing)
    mixed = examine(wall, [*right[:10], *wrong, *right[10:]])
    assert gone_in(mixed) == 0


def test_a_map_without_landmarks_loses_none() -> None:
    empty = synthetic_landmarks(points=60)
    assert gone_in(examine(empty, [])) == 0


def test_images_from_one_place_are_one_view() -> None:
    found = np.arange(COUNT) % 2 == 0
    first = view(0, found)
    near = replace(view(0, ~found), world_from_cam=pose(0) + 0.01 * np.eye(4)[:, [3, 0, 1, 2]])
    assert first.is_of_same_view(near, usual_distance=4.0)
    assert not first.is_of_same_view(view(1, found), usual_distance=4.0)
    both = first.joined(near)
    assert both.found.all() and len(both.landmarks) == COUNT
    part = Sighting.of(pose(0), np.array([2, 3]), np.array([0.5, 0.0]), np.array([True, False]))
    assert part.landmarks.tolist() == [2]
    joined = part.joined(Sighting.of(pose(0), np.array([1]), np.array([0.25]), np.array([False])))
    assert joined.landmarks.tolist() == [1, 2] and joined.found.tolist() == [False, True]
    assert joined.likelihood.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": np.array([1, 1], np.int32)}, "twice"),
        ({"landmarks": np.array([-1, 1], np.int32)}, "twice, or not in order"),
        ({"likelihood": np.array([0.5, 1.5], np.float32)}, "above 0 to 1"),
        ({"found": np.array([True])}, "one length"),
        ({"world_from_cam": np.full((4, 4), np.nan)}, "not finite"),
    ],
)
def test_a_sighting_that_contradicts_itself_is_refused(change: dict, message: str) -> None:
    good = Sighting.of(pose(0), np.arange(2), np.full(2, 0.5), np.array([True, False]))
    with pytest.raises(InputError, match=message):
        replace(good, **change)
