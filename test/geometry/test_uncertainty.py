from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.geometry.se3 import check_pose
from vggt3_ros.geometry.uncertainty import corrected_pose, pose_error_vector, squared_error

POSE = corrected_pose(
    torch.eye(4).double(), torch.tensor([3.0, -2.0, 1.0, 0.4, -1.1, 0.7], dtype=torch.float64)
)


def test_a_pose_corrected_by_its_error_is_the_true_one() -> None:
    true = corrected_pose(POSE, torch.tensor([0.2, 0.5, -0.1, 0.6, 0.3, -0.8], dtype=torch.float64))
    check_pose(true, "corrected")
    torch.testing.assert_close(
        corrected_pose(POSE, pose_error_vector(POSE, true)), true, rtol=0, atol=1e-12
    )


def test_an_error_is_in_map_axes_for_the_position_and_in_camera_axes_for_the_rotation() -> None:
    true = POSE.clone()
    true[0, 3] += 0.5
    torch.testing.assert_close(
        pose_error_vector(POSE, true), torch.tensor([0.5, 0, 0, 0, 0, 0]).double()
    )
    about_the_view = torch.tensor([0, 0, 0, 0, 0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(corrected_pose(POSE, about_the_view)[:3, 2], POSE[:3, 2])


def test_honest_errors_have_a_squared_error_of_six_degrees_of_freedom() -> None:
    dice = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=dice, dtype=torch.float64)
    errors = torch.randn(4000, 6, generator=dice, dtype=torch.float64) @ root.T
    squares = [squared_error(error, root @ root.T) for error in errors]
    assert sum(squares) / len(squares) == pytest.approx(6, abs=0.2)


def test_a_covariance_that_is_not_positive_and_finite_excuses_nothing() -> None:
    error, covariance = torch.zeros(6).double(), torch.eye(6).double()
    for wrong in (0.0, -1.0, math.nan, math.inf):
        covariance[2, 2] = wrong
        assert squared_error(error, covariance) == math.inf
