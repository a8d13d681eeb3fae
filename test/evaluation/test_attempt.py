"""Figures of verified poses have the values that a pencil gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vggt3_ros.evaluation.attempt import (
    CHI_SQUARE_95,
    CHI_SQUARE_MEDIAN,
    Attempt,
    chi_square,
    pose_error_vector,
    transformed_covariance,
    verified_errors,
)
from vggt3_ros.evaluation.challenge_figures import ChallengeCounts, TradeOff, challenge_figures
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, rotation_vector, se3
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.acceptance import Evidence

TURN = rotation_from_axis_angle(torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64))
POSE = se3(TURN, torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))


def attempt(accepted: bool, position_m: float = math.inf, **other: object) -> Attempt:
    shown = {
        "inliers": 20,
        "cells": 9,
        "support": 0.9,
        "agreement": 0.9,
        "compared": 9.0,
        "off_plane": 20,
        "off_plane_cells": 8,
    }
    shown |= {name: other.pop(name) for name in shown if name in other}  # type: ignore[misc]
    fields = {
        "name": "a",
        "answerable": True,
        "rotation_deg": 1.0,
        "evidence": Evidence(**shown),
        **other,
    }
    return Attempt(accepted=accepted, position_m=position_m, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.1, 3.0, math.pi - 1e-7])
def test_the_rotation_vector_inverts_the_exponential(angle: float) -> None:
    vector = angle * torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    assert rotation_vector(rotation_from_axis_angle(vector)).tolist() == pytest.approx(
        vector.tolist(), abs=1e-9
    )


def test_a_pose_error_is_in_world_axes_for_position_and_camera_axes_for_rotation() -> None:
    shift, turn = (
        torch.tensor([0.1, 0, 0], dtype=torch.float64),
        torch.tensor([0, 0.2, 0], dtype=torch.float64),
    )
    true = se3(TURN @ rotation_from_axis_angle(turn), POSE[:3, 3] + shift)
    assert pose_error_vector(POSE, true).tolist() == pytest.approx(
        [0.1, 0, 0, 0, 0.2, 0], abs=1e-12
    )


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A correlated covariance (6, 6) and true poses (count, 4, 4) around POSE that follow it."""
    generator = torch.Generator().manual_seed(0)
    root = (
        torch.randn(6, 6, generator=generator, dtype=torch.float64)
        * torch.tensor([0.03] * 3 + [0.01] * 3)[:, None]
    )
    errors = torch.randn(count, 6, generator=generator, dtype=torch.float64) @ root.T
    return root @ root.T, se3(
        TURN @ rotation_from_axis_angle(errors[:, 3:]), POSE[:3, 3] + errors[:, :3]
    )


def test_errors_that_follow_their_covariance_are_chi_square_with_six_degrees_of_freedom() -> None:
    covariance, true = drawn(3000)
    squares = np.array([chi_square(POSE, covariance, each) for each in true])
    assert np.median(squares) == pytest.approx(CHI_SQUARE_MEDIAN, rel=0.05)
    assert np.mean(squares <= CHI_SQUARE_95) == pytest.approx(0.95, abs=0.015)


def test_a_similarity_of_the_map_changes_no_normalised_error() -> None:
    covariance, true = drawn(1)
    moved = Sim3(
        2.5, rotation_from_axis_angle(POSE[:3, 3]), torch.tensor([3.0, -1, 2], dtype=torch.float64)
    )
    after = chi_square(
        moved.poses(POSE), transformed_covariance(covariance, moved), moved.poses(true)[0]
    )
    assert after == pytest.approx(chi_square(POSE, covariance, true[0]))


def test_a_covariance_that_is_none_makes_every_error_infinite() -> None:
    assert math.isinf(chi_square(POSE, torch.zeros(6, 6), POSE))
    assert math.isinf(chi_square(POSE, torch.full((6, 6), math.nan), POSE))


def test_medians_are_of_the_accepted_and_successes_of_all() -> None:
    seconds = {"prepare": 0.5, "network": 1.0, "features": 0.02, "total": 1.53}
    attempts = [
        attempt(True, 0.02, chi_square=4.0, seconds=seconds),
        attempt(True, 0.15, chi_square=30.0, seconds=seconds),
        attempt(True, 0.04, rotation_deg=16.0, chi_square=6.0, seconds={**seconds, "total": 1.56}),
        attempt(False, 0.01, seconds=seconds),
        attempt(False, answerable=False, seconds={"total": 0.0}),
    ]
    block = verified_errors(attempts)
    assert (block.queries, block.answerable, block.accepted, block.wrong_accepted) == (5, 4, 3, 1)
    assert (block.median_position_m, block.median_rotation_deg) == pytest.approx((0.04, 1.0))
    assert (block.success_10cm_10deg, block.success_20cm_20deg) == pytest.approx((1 / 5, 3 / 5))
    assert (block.chi_square_median, block.inside_95) == pytest.approx((6.0, 2 / 3))
    assert block.chi_square_ratio == pytest.approx(6 / 5.348)
    assert block.answerable_accepted == pytest.approx(3 / 4)
    assert block.ms_per_frame == pytest.approx((30 + 30 + 60 + 30 + 0) / 5)
    assert block.stages_ms["features"] == pytest.approx(20)


def test_processor_time_beside_the_network_is_told_beside_that_of_the_wall() -> None:
    spent = {"network": 3.0, "total": 3.1}
    block = verified_errors(
        [attempt(True, 0.0, cpu_seconds=spent), attempt(False, cpu_seconds={"total": 0.0})]
    )
    assert block.cpu_ms_per_frame == pytest.approx(50)
    assert math.isnan(verified_errors([attempt(False)]).cpu_ms_per_frame), "nobody measured it"


def test_without_accepted_poses_there_are_no_medians() -> None:
    block = verified_errors([attempt(False)])
    assert math.isnan(block.median_position_m) and math.isnan(block.chi_square_median)
    assert block.success_20cm_20deg == 0 and block.wrong_accepted == 0


def test_the_trade_off_counts_what_more_or_fewer_inliers_would_let_through() -> None:
    queries = [attempt(True, 0.01, inliers=30), attempt(False, 0.01, inliers=9), attempt(False)]
    posed = {
        "other place": [
            attempt(True, inliers=14, answerable=False),
            attempt(False, inliers=8, answerable=False),
            attempt(False, inliers=25, answerable=False),
        ]
    }
    figures = challenge_figures(queries, posed)
    assert figures.challenges == {"other place": ChallengeCounts(3, 1, 1)}
    assert figures.in_all == ChallengeCounts(6, 2, 1)
    assert [failure.attempt.evidence.inliers for failure in figures.failures] == [14]
    curve = figures.trade_off
    at = {least: row for row, least in enumerate(curve.limits["min_inliers"])}
    for least, answerable, accepted, wrong in (
        (6, 2, 4, 2),
        (9, 2, 3, 1),
        (12, 1, 2, 1),
        (15, 1, 1, 0),
        (31, 0, 0, 0),
    ):
        row = at[least]
        counts = curve.answerable_accepted[row], curve.accepted[row], curve.wrong_accepted[row]
        assert counts == (answerable, accepted, wrong), least


def test_the_trade_offs_over_support_and_agreement_follow_the_rule_of_acceptance() -> None:
    queries = [
        attempt(True, 0.01, agreement=0.7),
        # accepted for its agreement, whatever support is asked for
        attempt(True, 0.01, support=0.15, agreement=0.9),
        attempt(False, 0.01, support=0.2, agreement=0.4),
        attempt(False, 0.01, agreement=0.9),  # refused for what no limit here concerns
    ]
    posed = {"look-alike place": [attempt(False, support=0.25, agreement=0.2, answerable=False)]}
    figures = challenge_figures(queries, posed)

    def counts(curve: TradeOff) -> dict[float, list[int]]:
        """Answerable queries and poses in all that are accepted, and wrong ones, at chosen
        limits.
        """
        (values,) = curve.limits.values()
        rows = zip(
            values, curve.answerable_accepted, curve.accepted, curve.wrong_accepted, strict=True
        )
        return {least: found for least, *found in rows if least in (0.2, 0.4, 0.8)}

    assert counts(figures.trade_off_support) == {0.2: [3, 3, 0], 0.4: [2, 2, 0], 0.8: [2, 2, 0]}
    assert counts(figures.trade_off_agreement) == {0.2: [2, 2, 0], 0.4: [2, 2, 0], 0.8: [1, 1, 0]}
    both = [each.passes(min_support=0.2, min_agreement=0.2) for each in posed["look-alike place"]]
    assert both == [True]
