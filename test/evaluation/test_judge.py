"""What a localizer answers, weighed against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vggt3_ros.evaluation.attempt import Attempt, verified_errors
from vggt3_ros.evaluation.judge import Judge
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.landmarks.locate import Located
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus

POSE = torch.eye(4, dtype=torch.float64)
COVARIANCE = 1e-4 * torch.eye(6, dtype=torch.float64)


def judged(true_from_map: Sim3 | None, metric: bool = True) -> Attempt:
    """A verified pose that is the true one."""
    located = Located(True, "", "descriptor", POSE.numpy(), COVARIANCE.numpy(), 30, 10, 0.9)
    localization = Localization(
        LocalizationStatus.VERIFIED, "", POSE, metric, 1.0, None, None, {}, COVARIANCE, located
    )
    return Judge(true_from_map, LocateSettings()).attempt("a", localization, POSE, answerable=True)


def test_an_accepted_pose_has_its_errors() -> None:
    attempt = judged(Sim3.identity())
    assert attempt.is_right and attempt.chi_square == pytest.approx(0)


def test_where_the_map_does_not_follow_the_truth_no_accepted_pose_is_a_success() -> None:
    attempt = judged(None)
    assert attempt.accepted and math.isinf(attempt.position_m) and math.isinf(attempt.rotation_deg)
    assert math.isnan(attempt.chi_square)
    block = verified_errors([attempt])
    assert (block.wrong_accepted, block.success_20cm_20deg) == (1, 0)


def test_without_metres_no_covariance_is_compared_with_errors_in_metres() -> None:
    attempt = judged(Sim3.identity(), metric=False)
    assert attempt.is_right and math.isnan(attempt.chi_square)
    assert np.isnan(verified_errors([attempt]).inside_95)
