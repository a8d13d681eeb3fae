"""Depth of the map frames beside the true one, with one scale and as the landmarks scale each
keyframe.
"""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.depth import compare_depth, live_depth_figures
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus

from .oracle import SIZE_HW, SPLIT, arc_sequence

# true depth is 2 m everywhere
TWISTED = torch.tensor([0.8, 1.0, 1.0, 1.3])[:, None, None].expand(4, *SIZE_HW)
ANCHORED = torch.full((4, *SIZE_HW), 1.1)


def test_anchored_depths_are_measured_in_the_metres_of_the_map() -> None:
    figures = compare_depth(
        arc_sequence(), SPLIT.map, TWISTED, ANCHORED, 70, 14, metres_per_unit=2.0
    ).figures
    assert figures.depth_abs_rel == pytest.approx((0.2 + 0.3) / 4)
    assert figures.depth_scale == pytest.approx(2.0)
    assert figures.depth_delta_1_25 == pytest.approx(0.75)
    assert (
        figures.depth_abs_rel_anchored == pytest.approx(0.1)
        and figures.depth_delta_1_25_anchored == 1
    )


def test_without_landmarks_truth_or_alignment_there_is_no_such_figure() -> None:
    def anchored_error(
        sequence: Sequence, anchored: torch.Tensor | None, metres_per_unit: float | None
    ) -> float:
        comparison = compare_depth(sequence, SPLIT.map, TWISTED, anchored, 70, 14, metres_per_unit)
        return comparison.figures.depth_abs_rel_anchored

    sequence = arc_sequence()
    assert math.isnan(anchored_error(sequence, None, 2.0))
    assert math.isinf(anchored_error(sequence, ANCHORED, None))
    assert math.isnan(anchored_error(arc_sequence(with_depth=False), ANCHORED, 2.0))


def test_depth_of_queries_is_measured_where_they_are_verified() -> None:
    sequence, pose = arc_sequence(), torch.eye(4).double()
    right = Localization(
        LocalizationStatus.VERIFIED,
        "",
        pose,
        True,
        1.0,
        None,
        torch.full(SIZE_HW, 1.1),
        {"depth": 0.02},
    )
    lost = Localization(
        LocalizationStatus.LOST, "", None, True, 1.0, None, torch.full(SIZE_HW, 9.0), {}
    )
    figures = live_depth_figures(sequence, SPLIT.map[:2], [right, lost], 70, 14, 2.0)
    assert figures.abs_rel == pytest.approx(0.1) and figures.delta_1_25 == 1
    assert figures.frames == 1 and figures.ms == pytest.approx(20)
    assert math.isnan(live_depth_figures(sequence, SPLIT.map[:1], [right], 70, 14, None).abs_rel)
