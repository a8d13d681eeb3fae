"""Refined depth beside the truth, apart for the ways in which it is known."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.depth import compare_depth
from vggt3_ros.evaluation.provenance import RefinedFrames, refined_figures, true_depth_at

from .oracle import SIZE_HW, SPLIT, arc_sequence

NONE, AGREED, PLANE, NEAR, FAR = range(5)
SMALL = (28, 35)  # true depth is 2 m everywhere


def refined() -> RefinedFrames:
    """In units of two metres: half of the pixels agreed and 1 % off, a quarter far and 50 % off, a
    quarter unknown.
    """
    depth, provenance = (
        torch.full((4, *SMALL), 1.01),
        torch.full((4, *SMALL), AGREED, dtype=torch.uint8),
    )
    depth[:, :7], provenance[:, :7] = 1.5, FAR
    depth[:, 21:], provenance[:, 21:] = 0.0, NONE
    sigma = torch.full((4, *SMALL), 0.002)
    sigma[:, :7] = 0.25
    return RefinedFrames(depth, provenance, sigma)


def test_errors_are_told_apart_by_how_depth_is_known() -> None:
    figures = refined_figures(arc_sequence(), SPLIT.map, refined(), metres_per_unit=2.0)
    kinds = figures.by_provenance
    assert (figures.frames, figures.size_wh) == (4, (35, 28))
    assert astuple(kinds["agreed"]) == pytest.approx((0.5, 0.01, 1), abs=1e-6)
    assert astuple(kinds["far"]) == pytest.approx((0.25, 0.5, 0), abs=1e-6)
    assert kinds["none"].share == pytest.approx(0.25) and math.isnan(kinds["none"].abs_rel)
    assert kinds["plane"].share == kinds["near"].share == 0
    assert figures.every.abs_rel == pytest.approx((2 * 0.01 + 0.5) / 3), (
        "of the pixels whose depth is known"
    )
    assert figures.every.delta_1_25 == pytest.approx(2 / 3)


def test_expected_errors_stand_beside_the_measured_ones() -> None:
    figures = refined_figures(
        arc_sequence(), SPLIT.map, refined(), metres_per_unit=2.0
    ).by_expected_error
    assert list(figures) == [
        "up to 0.5 cm",
        "up to 1 cm",
        "up to 2 cm",
        "up to 5 cm",
        "up to 10 cm",
        "more",
    ]
    assert astuple(figures["up to 0.5 cm"]) == pytest.approx((0.5, 0.4, 2.0), abs=1e-4)
    assert astuple(figures["more"]) == pytest.approx((0.25, 50.0, 100.0), abs=1e-4)
    assert figures["up to 2 cm"].share == 0 and math.isnan(figures["up to 2 cm"].measured_cm)


def test_refined_depth_stands_beside_the_predicted_one() -> None:
    predicted = torch.ones(4, *SIZE_HW)
    arguments = (SPLIT.map, predicted, predicted, 70, 14, 2.0)
    found = compare_depth(arc_sequence(), *arguments, refined(), 2.0).figures.depth_refined
    assert found is not None and found.by_provenance["agreed"].abs_rel == pytest.approx(
        0.01, abs=1e-6
    )
    assert compare_depth(arc_sequence(), *arguments).figures.depth_refined is None
    assert compare_depth(arc_sequence(), *arguments, refined(), None).figures.depth_refined is None
    assert (
        compare_depth(
            arc_sequence(with_depth=False), *arguments, refined(), 2.0
        ).figures.depth_refined
        is None
    )


def test_true_depth_of_averaged_pixels_is_exact_on_planes_and_keeps_edges() -> None:
    rows = torch.arange(8, dtype=torch.float64)[:, None].expand(8, 8)
    slanted = 1 / (0.5 - 0.01 * rows)  # a plane: inverse depth is linear in the image
    inner = 1 / true_depth_at(slanted, (4, 4))
    assert torch.allclose(
        inner[:, 0], 0.5 - 0.01 * torch.tensor([0.5, 2.5, 4.5, 6.5], dtype=torch.float64)
    )
    edge = torch.ones(4, 4, dtype=torch.float64)
    edge[:, 1:] = 3.0
    edge[0, 3] = 0.0
    found = true_depth_at(edge, (2, 2))
    assert set(found.flatten().tolist()) <= {0.0, 1.0, 3.0}, "no depth between two surfaces"


def test_maps_of_other_shapes_and_kinds_are_refused() -> None:
    depth = torch.ones(2, 3, 4)
    with pytest.raises(
        InputError, match=r"all be \(S, h, w\); got \(2, 3, 4\), \(3, 4\) and \(2, 3, 4\)"
    ):
        RefinedFrames(depth, torch.ones(3, 4, dtype=torch.uint8), depth)
    with pytest.raises(InputError, match="0 to 4 .none, agreed, plane, near, far.; got 5"):
        RefinedFrames(depth, torch.full((2, 3, 4), 5, dtype=torch.uint8), depth)
