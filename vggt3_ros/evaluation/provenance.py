"""Errors of refined depth, apart by how it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, interpolate

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.coverage import view_of
from vggt3_ros.evaluation.metrics import is_within_delta
from vggt3_ros.geometry.provenance import Provenance

PROVENANCES = tuple(each.name.lower() for each in Provenance)
# limits of expected errors, which are compared with the measured ones
_EXPECTED_CM = (0.5, 1.0, 2.0, 5.0, 10.0)
_EDGE = 1.1  # ratio of the true depths of one pixel, beyond which it holds an edge


@dataclass(frozen=True, eq=False)
class RefinedFrames:
    """The map frames' refined depth along z (S, h, w) in the map's unit, 0 where unknown, of the
    undistorted images.

    sigma (S, h, w): its expected error, in the same unit. provenance (S, h, w) uint8 numbers
    PROVENANCES: not known, seen by several frames, carried on by a plane, filled by the network's
    shape near to what is known, or far from it. Raises InputError for other shapes and numbers.
    """

    depth: Tensor
    provenance: Tensor
    sigma: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(each.shape) for each in (self.depth, self.provenance, self.sigma)]
        if self.depth.ndim != 3 or len(set(shapes)) > 1:
            given = f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            raise InputError(
                f"refined depth, its provenance and sigma must all be (S, h, w); got {given}"
            )
        if self.provenance.numel() and int(self.provenance.max()) >= len(PROVENANCES):
            raise InputError(
                f"provenance must be 0 to {len(PROVENANCES) - 1} ({', '.join(PROVENANCES)}); "
                f"got {int(self.provenance.max())}"
            )


@dataclass(frozen=True)
class DepthErrorsOfPart:
    """Errors of some of the pixels, and what share they are of all."""

    share: float = field(metadata=figure("share"))
    abs_rel: float = field(metadata=figure("ratio"))
    delta_1_25: float = field(metadata=figure("share"))


@dataclass(frozen=True)
class ExpectedError:
    """Means of what was expected and of what was measured, of a fraction of the pixels."""

    share: float = field(metadata=figure("share"))
    expected_cm: float = field(metadata=figure("cm"))
    measured_cm: float = field(metadata=figure("cm"))


@dataclass(frozen=True)
class RefinedDepth:
    """Errors of refined depth: of all its pixels, by provenance, and by the error that was
    expected.
    """

    frames: float = field(metadata=figure("count"))
    size_wh: tuple[int, int] | None = field(metadata=figure("px", optional=True))
    every: DepthErrorsOfPart = field(metadata=figure(inline=True))
    by_provenance: dict[str, DepthErrorsOfPart]
    by_expected_error: dict[str, ExpectedError]


def refined_figures(
    sequence: Sequence, indices: Items[int], refined: RefinedFrames, metres_per_unit: float
) -> RefinedDepth:
    """AbsRel and delta < 1.25 of refined depth of the frames `indices` (S), of all pixels and by
    provenance; and means of expected and of measured errors, by what was expected.

    Shares are of the pixels whose true depth is known, errors of those whose refined depth is known
    too, NaN without any. metres_per_unit: of the map, in the true world. Frames are read one by
    one.
    """
    height, width = refined.depth.shape[-2:]
    # pixels, known ones, their errors, of small ones
    sums = torch.zeros(len(PROVENANCES), 4, dtype=torch.float64)
    # pixels, expected and measured cm
    expected = torch.zeros(len(_EXPECTED_CM) + 1, 3, dtype=torch.float64)
    limits = torch.tensor(_EXPECTED_CM, dtype=torch.float64)
    frames = 0
    for row, index in enumerate(indices):
        view = view_of(sequence, index)
        if view is None:
            continue
        frames += 1
        true = true_depth_at(view.depth, (height, width))
        ratio = (refined.depth[row].cpu().double() * metres_per_unit / true)[true > 0]
        kind = refined.provenance[row].cpu().long()[true > 0]
        known = ratio > 0
        counted = torch.stack(
            [torch.ones_like(ratio), known, (ratio - 1).abs() * known, is_within_delta(ratio)],
            dim=1,
        )
        sums.index_add_(0, kind, counted)
        expected_cm = 100 * metres_per_unit * refined.sigma[row].cpu().double()[true > 0][known]
        off = 100 * ((ratio - 1).abs() * true[true > 0])[known]
        expected.index_add_(
            0,
            torch.bucketize(expected_cm, limits),
            torch.stack([torch.ones_like(off), expected_cm, off], dim=1),
        )
    pixels = float(sums[:, 0].sum())
    names = [*(f"up to {limit:g} cm" for limit in _EXPECTED_CM), "more"]
    return RefinedDepth(
        frames=frames,
        size_wh=(width, height),
        every=_errors_of_part(sums.sum(0), pixels),
        by_provenance={
            name: _errors_of_part(part, pixels)
            for name, part in zip(PROVENANCES, sums, strict=True)
        },
        by_expected_error={
            name: _expected_error(part, pixels) for name, part in zip(names, expected, strict=True)
        },
    )


def true_depth_at(depth: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """True depth (h, w) for averaged pixels, from that (H, W) of the whole image, 0 where unknown.

    The mean of the inverse depths that fall into a pixel, which is exact on planes; where it holds
    an edge, or an unknown depth, the depth at its middle.
    """
    inverse = (1 / depth)[None, None]
    mean = 1 / adaptive_avg_pool2d(inverse, size_hw)
    smooth = adaptive_max_pool2d(inverse, size_hw) < -_EDGE * adaptive_max_pool2d(-inverse, size_hw)
    middle = interpolate(depth[None, None], size_hw, mode="nearest-exact")
    return torch.where(smooth, mean, middle)[0, 0]


def _errors_of_part(sums: Tensor, pixels: float) -> DepthErrorsOfPart:
    """From the sums (4) of some of all `pixels`."""
    count, known, errors, small = sums.tolist()
    return DepthErrorsOfPart(
        share=count / pixels if pixels else math.nan,
        abs_rel=errors / known if known else math.nan,
        delta_1_25=small / known if known else math.nan,
    )


def _expected_error(sums: Tensor, pixels: float) -> ExpectedError:
    """From the sums (3) of some of all `pixels`."""
    count, expected, measured = sums.tolist()
    return ExpectedError(
        share=count / pixels if pixels else math.nan,
        expected_cm=expected / count if count else math.nan,
        measured_cm=measured / count if count else math.nan,
    )
