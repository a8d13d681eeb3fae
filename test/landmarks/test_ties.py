"""Parts of a map whose ties contradict each other, by counts alone."""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.ties import at_odds

ALL, NONE = np.ones(6, dtype=bool), np.zeros(6, dtype=bool)


def chain(*between: int) -> np.ndarray:
    """Counts (6, 6) of landmarks that neighbours share."""
    counts = np.zeros((6, 6), np.int64)
    for i, count in enumerate(between):
        counts[i, i + 1] = counts[i + 1, i] = count
    return counts + 500 * np.eye(6, dtype=np.int64)


def test_a_part_that_a_look_alike_ties_is_left_out() -> None:
    """Between 3 and 4 most matches contradict; 0 and 5 look alike and agree."""
    matched, agreeing = chain(90, 90, 90, 60, 90), chain(88, 90, 85, 5, 90)
    for counts in (matched, agreeing):
        counts[0, 5] = counts[5, 0] = 25
    assert at_odds(ALL, NONE, matched, agreeing).tolist() == [False] * 4 + [True] * 2
    last = np.arange(6) == 5
    assert at_odds(ALL, last, matched, agreeing).tolist() == [True] * 4 + [False] * 2, (
        "what has a prior stays"
    )
    assert not at_odds(ALL, ALL, matched, agreeing).any(), "priors tell how they lie"


def test_a_part_that_a_look_alike_ties_better_than_what_follows_is_left_out() -> None:
    """2 and 3 follow one another and contradict; that their parts look alike ties them ten times as
    often.
    """
    matched, agreeing = chain(90, 90, 50, 90, 90), chain(88, 90, 8, 90, 90)
    for counts in (matched, agreeing):
        counts[0, 3:] = counts[3:, 0] = 200
    counts = matched.copy()
    counts[1, 5] = counts[5, 1] = 60
    assert at_odds(ALL, NONE, counts, agreeing).tolist() == [False] * 3 + [True] * 3
    first = np.arange(6) == 0
    assert at_odds(ALL, first, counts, agreeing).tolist() == [False] * 3 + [True] * 3, (
        "what has a prior stays"
    )


def test_every_part_at_odds_goes() -> None:
    matched, agreeing = chain(90, 60, 90, 60, 90), chain(88, 40, 90, 30, 90)
    assert at_odds(ALL, NONE, matched, agreeing).sum() == 4


def test_a_right_map_has_none() -> None:
    matched = chain(90, 90, 90, 60, 90)
    assert not at_odds(ALL, NONE, matched, (0.9 * matched).astype(np.int64)).any()


def test_few_matches_contradict_nothing() -> None:
    assert not at_odds(ALL, NONE, chain(90, 90, 90, 14, 90), chain(90, 90, 90, 1, 90)).any()


def test_only_members_count() -> None:
    matched, agreeing = chain(90, 90, 90, 60, 90), chain(90, 90, 90, 1, 90)
    assert not at_odds(np.arange(6) < 4, NONE, matched, agreeing).any()
    assert not at_odds(NONE, NONE, matched, agreeing).any()
    assert not at_odds(np.arange(6) == 2, NONE, matched, agreeing).any()
