"""Metrics have the values that a pencil gives."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation import metrics
from vggt3_ros.geometry.se3 import rotation_angle, rotation_from_axis_angle, se3
from vggt3_ros.geometry.sim3 import Sim3


def turn(degrees: float, axis: tuple[float, float, float] = (0, 0, 1)) -> Tensor:
    return rotation_from_axis_angle(math.radians(degrees) * torch.tensor(axis, dtype=torch.float64))


def poses(
    positions: list[tuple[float, float, float]], degrees: list[float] | None = None
) -> Tensor:
    rotations = torch.stack([turn(angle) for angle in degrees or [0.0] * len(positions)])
    return se3(rotations, torch.tensor(positions, dtype=torch.float64))


SQUARE = poses([(0, 0, 0), (3, 0, 0), (3, 4, 0), (0, 4, 0)], [0, 10, 20, 30])


def distorted_copy(true: Tensor) -> Tensor:
    """The same map in other units, axes and origin: what a perfect network would give."""
    return Sim3(
        0.2, turn(40, (0.6, 0, 0.8)), torch.tensor([5.0, -1, 2], dtype=torch.float64)
    ).poses(true)


def test_extent_is_the_diagonal_of_the_box_around_the_positions() -> None:
    assert metrics.trajectory_extent(SQUARE) == pytest.approx(5.0)


def test_ate_does_not_see_units_axes_or_origin() -> None:
    assert metrics.absolute_trajectory_error(distorted_copy(SQUARE), SQUARE) == pytest.approx(
        0, abs=1e-9
    )


def test_ate_is_what_no_similarity_can_remove() -> None:
    # Moved up and down in turns, a square is closest to itself at its own size: each corner is off
    # by 1 m.
    bent = SQUARE.clone()
    bent[:, 2, 3] = torch.tensor([1.0, -1, 1, -1])
    # The best scale of the 4-corner square with variance 6.25 is 6.25 / 7.25.
    expected = math.sqrt(6.25 - 6.25**2 / 7.25)
    assert metrics.absolute_trajectory_error(bent, SQUARE) == pytest.approx(expected)


def test_ate_of_motion_along_a_line_uses_the_orientations() -> None:
    line = poses([(0, 0, 0), (1, 0, 0), (2, 0, 0)])
    assert metrics.absolute_trajectory_error(distorted_copy(line), line) == pytest.approx(
        0, abs=1e-9
    )


@pytest.mark.parametrize("factor", [0.0, -1.0], ids=["all at one place", "mirrored"])
def test_a_useless_map_collapses_to_the_mean_true_position(factor: float) -> None:
    line = poses([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [0, 10, 20])
    useless = line.clone()
    useless[:, :3, 3] *= factor
    alignment = metrics.align_map(useless, line)
    assert alignment.collapsed
    aligned = alignment.true_from_estimated.poses(useless)
    assert torch.allclose(
        aligned[:, :3, 3], torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-6
    )
    assert torch.allclose(aligned[:, :3, :3], line[:, :3, :3])
    assert alignment.problem and "contradict" in alignment.problem
    assert math.isinf(metrics.absolute_trajectory_error(useless, line)), (
        "sqrt(2/3) is the error of the mean pose"
    )


@pytest.mark.parametrize("count", [3, 8, 90])
def test_a_scale_that_draws_all_positions_together_is_a_collapse(count: int) -> None:
    true = poses([(i / count, 0, 0) for i in range(count)])
    unrelated = true.clone()
    # ten times its motion
    unrelated[:, 1, 3] = 3.0 * torch.tensor([(-1.0) ** i for i in range(count)])
    alignment = metrics.align_map(unrelated, true)
    assert alignment.problem and "% of what the true ones do" in alignment.problem


def test_one_position_far_away_draws_the_others_together() -> None:
    true = poses([(0.1 * (i % 5), 0.1 * (i // 5), 0) for i in range(20)])
    thrown = true.clone()
    thrown[7, :3, 3] = torch.tensor([30.0, 40.0, 0.0])
    assert metrics.align_map(thrown, true).collapsed
    assert math.isinf(metrics.absolute_trajectory_error(thrown, true))


def test_what_follows_the_truth_roughly_is_no_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    rough = SQUARE.clone()
    rough[:, :3, 3] += torch.randn(4, 3, generator=generator, dtype=torch.float64)
    assert not metrics.align_map(rough, SQUARE).collapsed


def test_true_positions_that_coincide_tell_no_scale() -> None:
    turning = poses([(1, 2, 3)] * 5, [0, 10, 20, 30, 40])
    jittered = turning.clone()
    jittered[:, 0, 3] += torch.linspace(0, 1, 5, dtype=torch.float64)
    assert metrics.align_map(jittered, turning).collapsed


def test_alignment_brings_a_perfect_map_onto_the_truth() -> None:
    alignment = metrics.align_map(distorted_copy(SQUARE), SQUARE)
    assert not alignment.collapsed
    assert torch.allclose(alignment.true_from_estimated.poses(distorted_copy(SQUARE)), SQUARE)


def test_pair_errors_do_not_see_units_axes_or_origin() -> None:
    assert metrics.pair_errors(distorted_copy(SQUARE), SQUARE, 0.1) == pytest.approx(
        (0, 0), abs=1e-6
    )


def test_pair_errors_are_medians_over_all_pairs() -> None:
    true = poses([(0, 0, 0), (1, 0, 0), (2, 0, 0)])
    estimated = true.clone()
    estimated[2, :3, :3] = turn(30)  # wrong in two pairs of three
    # pair 0-1 is 90, pair 1-2 about 27, pair 0-2 is right
    estimated[1, :3, 3] = torch.tensor([0.0, 1, 0])
    rotation, direction = metrics.pair_errors(estimated, true, 0.1)
    assert rotation == pytest.approx(30)
    assert direction == pytest.approx(math.degrees(math.atan(0.5)))


def test_opposite_direction_counts_as_180_degrees_and_no_motion_as_90() -> None:
    true = poses([(0, 0, 0), (1, 0, 0)])
    assert metrics.pair_errors(poses([(0, 0, 0), (-2, 0, 0)]), true, 0.1)[1] == pytest.approx(180)
    assert metrics.pair_errors(poses([(0, 0, 0), (0, 0, 0)]), true, 0.1)[1] == pytest.approx(90)


def test_pairs_that_hardly_move_have_no_direction() -> None:
    true = poses([(0, 0, 0), (0.001, 0, 0)])
    assert math.isnan(metrics.pair_errors(true, true, 0.01)[1])


def test_pose_errors_are_in_metres_and_degrees_and_infinite_for_lost() -> None:
    true = poses([(0, 0, 0), (1, 0, 0)])
    position, rotation = metrics.pose_errors([poses([(0.3, 0.4, 0)], [25])[0], None], true)
    assert position.tolist() == pytest.approx([0.5, math.inf])
    assert rotation.tolist() == pytest.approx([25, math.inf])


def test_summary_of_answered_queries() -> None:
    summary = metrics.localization_errors(
        np.array([0.05, 0.15, 0.4]), np.array([1.0, 9.0, 2.0]), extent_m=5.0
    )
    assert asdict(summary) == pytest.approx(
        {
            "median_position_percent": 3.0,
            "median_rotation_deg": 2.0,
            "mean_position_m": 0.2,
            "mean_rotation_deg": 4.0,
            "median_position_m": 0.15,
            "success_10cm_10deg": 1 / 3,
            "success_20cm_20deg": 2 / 3,
        }
    )


def test_success_needs_both_position_and_rotation() -> None:
    summary = metrics.localization_errors(
        np.array([0.01, 0.01]), np.array([15.0, 25.0]), extent_m=1.0
    )
    assert summary.success_10cm_10deg == 0
    assert summary.success_20cm_20deg == 0.5


def test_lost_queries_are_failures_and_count_in_the_medians() -> None:
    position, rotation = np.array([0.01, 0.02, np.inf]), np.array([1.0, 2.0, np.inf])
    summary = metrics.localization_errors(position, rotation, extent_m=1.0)
    assert summary.success_10cm_10deg == pytest.approx(2 / 3)
    assert summary.median_position_m == pytest.approx(0.02)  # 0.015 had the lost one been dropped
    assert summary.mean_position_m == pytest.approx(0.015)  # of the answered ones


def test_with_half_of_the_queries_lost_the_median_is_infinite() -> None:
    summary = metrics.localization_errors(
        np.array([0.01, np.inf]), np.array([1.0, np.inf]), extent_m=1.0
    )
    assert math.isinf(summary.median_position_m)
    assert math.isinf(summary.median_position_percent)


def test_with_all_queries_lost_there_is_no_mean() -> None:
    summary = metrics.localization_errors(np.array([np.inf]), np.array([np.inf]), extent_m=1.0)
    assert math.isnan(summary.mean_position_m)
    assert summary.success_20cm_20deg == 0


def test_no_queries_cannot_be_summarized() -> None:
    with pytest.raises(InputError, match="at least one query"):
        metrics.localization_errors(np.empty(0), np.empty(0), extent_m=1.0)


def test_depth_has_one_scale_for_the_whole_sequence_and_skips_unknown_pixels() -> None:
    true = [np.array([[2.0, 4.0], [0.0, 8.0]]), np.array([[1.0, 2.0], [3.0, np.nan]])]
    predicted = [np.array([[1.0, 2.0], [9.0, 4.0]]), np.array([[0.5, 1.0], [3.0, 1.0]])]
    errors = metrics.depth_errors(predicted, true)
    assert errors.scale == pytest.approx(2.0) and errors.pixels == 6
    assert errors.abs_rel == pytest.approx(1 / 6)  # one pixel of six is twice too far
    assert errors.delta_1_25 == pytest.approx(5 / 6)


def test_a_given_scale_of_depth_is_kept() -> None:
    true, predicted = [np.array([[2.0, 4.0]])], [np.array([[1.0, 1.5]])]
    errors = metrics.depth_errors(predicted, true, 2.2)
    assert (errors.abs_rel, errors.scale) == pytest.approx(((0.1 + 0.175) / 2, 2.2))


def test_too_near_counts_like_too_far() -> None:
    true = [np.ones(4)]
    assert metrics.depth_errors(
        [np.array([1.24, 1.26, 0.81, 0.79])], true, 1.0
    ).delta_1_25 == pytest.approx(0.5)


def test_depth_without_truth_is_not_a_number() -> None:
    for errors in (
        metrics.depth_errors([np.ones((2, 2))], [np.zeros((2, 2))]),
        metrics.depth_errors([], []),
    ):
        assert math.isnan(errors.abs_rel) and math.isnan(errors.delta_1_25) and errors.pixels == 0


def test_mean_pose_averages_position_and_rotation() -> None:
    mean = metrics.mean_pose(SQUARE)
    assert mean[:3, 3].tolist() == pytest.approx([1.5, 2, 0])
    assert float(rotation_angle(mean[:3, :3]).rad2deg()) == pytest.approx(15)
