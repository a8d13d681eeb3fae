"""Whether an image agrees with a map everywhere, and whether what agrees has depth."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.landmarks.agreement import agreement
from vggt3_ros.landmarks.planes import off_best_plane

SIZE_WH = (640, 480)
EVERYWHERE = np.stack(
    np.meshgrid(np.arange(6, 640, 16.0), np.arange(6, 480, 16.0)), axis=-1
).reshape(-1, 2)
LEFT = EVERYWHERE[:, 0] < 320
INSIDE = ((EVERYWHERE > 80) & (EVERYWHERE < [560, 400])).all(1)


def agreed(
    shown: np.ndarray, features: np.ndarray = EVERYWHERE, expected: np.ndarray = EVERYWHERE
) -> tuple:
    """Agreement where every third of the `shown` ones (n,) among the expected landmarks is
    confirmed.
    """
    confirmed = shown & (np.arange(len(expected)) % 3 == 0)
    result = agreement(
        features, expected[confirmed], expected, np.ones(len(expected)), confirmed, SIZE_WH
    )
    return result.fraction, result.compared


def test_an_image_agrees_that_confirms_in_every_part_the_same_share():
    share, compared = agreed(np.ones(len(EVERYWHERE), bool))
    assert share > 0.9 and compared == 48, "every cell of 80 x 80 pixels tells"


@pytest.mark.parametrize(
    "shown", [LEFT, ~LEFT, EVERYWHERE[:, 1] < 240, EVERYWHERE @ [0.75, 1] < 480, INSIDE, ~INSIDE]
)
def test_a_copy_of_a_part_is_contradicted_by_the_rest(shown):
    share, compared = agreed(shown)
    assert share < 0.3 and compared > 20


def test_cells_without_features_contradict_nothing():
    """As where something dark stands before half of the lens."""
    share, compared = agreed(LEFT, features=EVERYWHERE[LEFT])
    assert share > 0.9 and compared == 24


def test_what_the_map_does_not_know_contradicts_by_half_and_is_not_compared():
    share, compared = agreed(np.ones(int(LEFT.sum()), bool), expected=EVERYWHERE[LEFT])
    assert 0.45 < share < 0.55 and compared == 24
    nothing = np.zeros((0, 2))
    alone = agreement(EVERYWHERE, EVERYWHERE[:20], nothing, np.zeros(0), np.zeros(0, bool), SIZE_WH)
    assert alone.fraction < 0.55 and alone.compared == 0
    assert (
        agreement(nothing, nothing, nothing, np.zeros(0), np.zeros(0, bool), SIZE_WH).compared == 0
    )


def test_what_is_hardly_ever_seen_contradicts_little():
    """As behind something that stands before it from here, but not from everywhere."""
    confirmed = LEFT & (np.arange(len(EVERYWHERE)) % 3 == 0)
    shares = [
        agreement(
            EVERYWHERE, EVERYWHERE[confirmed], EVERYWHERE, likelihood, confirmed, SIZE_WH
        ).fraction
        for likelihood in (np.ones(len(EVERYWHERE)), np.where(LEFT, 1.0, 0.002))
    ]
    assert shares[0] < 0.1 and shares[1] > 0.4


def test_features_outside_of_the_image_do_not_matter():
    """Lens distortion undone moves some there."""
    outside = np.array([[-700.0, 30], [-90, -1000], [900, 500], [1200, 1300]]).repeat(6, axis=0)
    shown = np.ones(len(EVERYWHERE), bool)
    assert agreed(shown, features=np.concatenate([outside, EVERYWHERE])) == agreed(shown)


def test_points_of_one_plane_have_no_depth_and_those_beside_it_do():
    rng = np.random.default_rng(0)
    wall = np.concatenate([rng.uniform(-1, 1, (60, 2)), np.full((60, 1), 3.0)], axis=1)
    things = rng.uniform([-1, -1, 1.5], [1, 1, 2.5], (20, 3))
    eye = np.zeros(3)
    assert not off_best_plane(wall + rng.normal(0, 0.005, wall.shape), eye).any()
    assert (
        off_best_plane(np.concatenate([wall, things]), eye).tolist() == [False] * 60 + [True] * 20
    )
    assert off_best_plane(np.concatenate([wall, things]), eye - [0, 0, 200.0]).sum() == 0, (
        "depth is relative"
    )
    line = np.arange(9.0)[:, None] * [0, 1, 0] + [0, 0, 3]
    for flat in (wall[:0], wall[:3], wall[:1].repeat(9, axis=0), line):
        assert off_best_plane(flat, eye).tolist() == [False] * len(flat)
