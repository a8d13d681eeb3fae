"""Sparse lattices: cubic blocks of points, kept only where there is something (Niessner et al.
2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError

SIDE = 8  # lattice points along an edge of a block
POINTS = SIDE**3
_MAX_BLOCKS = 2**20  # blocks along an axis, so that the numbers of three axes fit one of 63 bits


@dataclass(frozen=True, eq=False)
class Blocks:
    """B different blocks; block (i, j, k) has the lattice points from (8 i, 8 j, 8 k) to (8 i + 7,
    8 j + 7, 8 k + 7).

    coordinates (B, 3) int64, in the order of keys (B,) int64; low, spans (3,) int64: the least
    coordinates, and how many there are along each axis.
    """

    coordinates: Tensor
    keys: Tensor
    low: Tensor
    spans: Tensor

    @staticmethod
    def covering(coordinates: Tensor) -> Blocks:
        """The blocks at coordinates (N, 3) int64, N > 0, each once. Raises InputError when they lie
        too far apart.
        """
        low = coordinates.amin(0)
        spans = coordinates.amax(0) - low + 1
        if int(spans.max()) > _MAX_BLOCKS:
            raise InputError(
                f"the surfaces reach over {int(spans.max()) * SIDE} voxels; leave out depth that is"
                " far off, or give larger voxels"
            )
        keys = torch.unique(_keys(coordinates - low, spans))
        rest = keys // spans[2]
        third = keys % spans[2]
        return Blocks(
            torch.stack([rest // spans[1], rest % spans[1], third], dim=1) + low, keys, low, spans
        )

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, coordinates: Tensor) -> Tensor:
        """Index (N,) of the blocks with coordinates (N, 3), -1 for those that are not here."""
        cells = coordinates - self.low
        inside = ((cells >= 0) & (cells < self.spans)).all(1)
        keys = _keys(cells, self.spans)
        index = torch.searchsorted(self.keys, keys).clamp(max=len(self) - 1)
        return torch.where(inside & (self.keys[index] == keys), index, -1)


def offsets(device: torch.device) -> Tensor:
    """Lattice points (512, 3) int64 of a block, from its first one, in the order in which values
    are kept.
    """
    axis = torch.arange(SIDE, device=device)
    return torch.cartesian_prod(axis, axis, axis)


def _keys(cells: Tensor, spans: Tensor) -> Tensor:
    return (cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2]
