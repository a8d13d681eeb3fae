from __future__ import annotations

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.robust import robust_deviation


def test_a_deviation_is_that_of_the_good_errors_among_wild_ones() -> None:
    errors = np.random.default_rng(2).normal(scale=0.3, size=4000)
    errors[::5] = 1e6
    assert robust_deviation(errors) == pytest.approx(0.3, rel=0.4)
    assert robust_deviation(torch.from_numpy(errors)) == pytest.approx(robust_deviation(errors))


def test_nothing_deviates_by_nothing() -> None:
    assert robust_deviation(np.zeros((0, 2))) == robust_deviation(torch.zeros(0)) == 0.0
