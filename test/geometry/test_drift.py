"""What odometry that drifts is expected to be off by."""

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.drift import Drift


def test_texts_are_understood_and_come_back():
    drift = Drift.parse("2%,0.1deg")
    assert drift == Drift(0.02, np.radians(0.1))
    assert str(drift) == "2%,0.1deg"


@pytest.mark.parametrize("text", ["", "2%", "2,0.1deg", "-2%,0.1deg", "60%,1deg", "0%,0deg"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match="drift"):
        Drift.parse(text)


def test_errors_of_the_steps_add_up_to_those_of_the_way():
    poses = np.tile(np.eye(4), (101, 1, 1))
    poses[:, 0, 3] = np.arange(101)
    drift = Drift(0.02, np.radians(0.1))
    variances = drift.chain(poses).covariance.diagonal(axis1=1, axis2=2).sum(0)
    np.testing.assert_allclose(np.sqrt(variances[0]), 2.0)
    np.testing.assert_allclose(np.sqrt(variances[3]), drift.angle(np.array(100.0)))
    assert drift.offset(np.array(100.0)) == pytest.approx(2.0 + 50 * np.radians(10))
