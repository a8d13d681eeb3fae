"""A field of truncated signed distances on a sparse lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.dense.blocks import POINTS, Blocks
from vggt3_ros.errors import InputError

BLOCK_BYTES = 6 * 4 * POINTS  # distance, weight, three colours and their weight, float32


@dataclass(frozen=True)
class TsdfSettings:
    """How depth is fused.

    voxel: side in the depth's unit; None for the median size of a pixel on the surfaces, or larger
    if need be. truncation: how far from a surface distances are kept, in voxels; it needs 2 for
    surfaces without gaps, and what is thinner than it swells. least_cosine: of the angle of
    incidence, below which a pixel tells of no surface. memory: bytes that the field may take.
    """

    voxel: float | None = None
    truncation: float = 3.0
    least_cosine: float = 0.15
    memory: int = 2 << 30

    def __post_init__(self) -> None:
        if self.voxel is not None and not 0 < self.voxel < math.inf:
            raise InputError(f"voxel must be a length above 0, got {self.voxel}")
        if not 2 <= self.truncation < math.inf or not 0 <= self.least_cosine < 1:
            limits = f"truncation {self.truncation}, least_cosine {self.least_cosine}"
            raise InputError(
                f"truncation must be at least 2 voxels, least_cosine within 0..1; got {limits}"
            )
        if self.memory < BLOCK_BYTES:
            raise InputError(
                f"memory is {self.memory} bytes; a single block of voxels takes {BLOCK_BYTES}"
            )


@dataclass(frozen=True, eq=False)
class TsdfVolume:
    """Distances to the surface; lattice point (i, j, k) lies at voxel * (i, j, k) in the world.

    wanted: the side that voxels would have if they had fitted into memory; otherwise the same as
    voxel. truncation: the greatest distance, in voxels. Weighted sums over the views, float32, a
    row for each of B blocks: distance (B, 512), in truncations, positive before the surface; weight
    (B, 512), 0 where nothing is known; color (B, 512, 3) of 0..255; color_weight (B, 512).
    """

    voxel: float
    wanted: float
    truncation: float
    blocks: Blocks
    distance: Tensor
    weight: Tensor
    color: Tensor
    color_weight: Tensor

    @staticmethod
    def empty(voxel: float, wanted: float, truncation: float, blocks: Blocks) -> TsdfVolume:
        """A field in which nothing is known yet."""
        shape = (len(blocks), POINTS)
        device = blocks.coordinates.device
        zeros = [torch.zeros((*shape, *rest), device=device) for rest in ((), (), (3,), ())]
        return TsdfVolume(voxel, wanted, truncation, blocks, *zeros)
