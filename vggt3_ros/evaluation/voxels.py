"""Means of points over the cubes of a grid, gathered piece by piece."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF_GRID = 1 << 20  # cubes to either side of the origin
_MERGED_AT = 2_000_000  # rows that wait before they are merged with the first


class VoxelMeans:
    """Points (N, 3) averaged over cubes of side `size` that are counted from `origin` (3,).

    Memory grows with the cubes, not with the points; cubes grow by a quarter until there are at
    most `most`. Points that are not finite, or a million cubes away, are left out.
    """

    def __init__(self, size: float, origin: Tensor, most: int) -> None:
        self.size = size
        self._origin = origin.double()
        self._most = most
        # (n, 4) float32: sums of offsets from the origin, and count
        self._waiting: list[Tensor] = []

    def add(self, points: Tensor) -> None:
        """Count points (N, 3), in the unit of `size`."""
        offsets = (points.double() - self._origin).float()
        rows = torch.cat([offsets, offsets.new_ones(len(offsets), 1)], dim=1)
        self._waiting.append(self._summed(rows[rows.isfinite().all(1)]))
        if sum(map(len, self._waiting[1:])) > _MERGED_AT:
            self._merge()

    def means(self) -> Tensor:
        """Mean points (M, 3) float64 of the cubes that hold any."""
        if not self._waiting:
            return torch.empty(0, 3).double()
        self._merge()
        sums = self._waiting[0]
        return (sums[:, :3] / sums[:, 3:]).double() + self._origin

    def _merge(self) -> None:
        merged = self._summed(torch.cat(self._waiting))
        while len(merged) > self._most:
            self.size *= 1.25
            merged = self._summed(merged)
        self._waiting = [merged]

    def _summed(self, rows: Tensor) -> Tensor:
        """Sums of the rows whose mean lies in the same cube."""
        keys = torch.zeros(len(rows), dtype=torch.long)
        inside = torch.ones(len(rows), dtype=torch.bool)
        for axis in range(3):
            cell = torch.floor(rows[:, axis] / rows[:, 3] / self.size).long() + _HALF_GRID
            inside &= (cell >= 0) & (cell < 2 * _HALF_GRID)
            keys = keys * (2 * _HALF_GRID) + cell
        keys = keys[inside]
        rows = rows[inside]
        found, cell_of_row = torch.unique(keys, return_inverse=True)
        return rows.new_zeros(len(found), 4).index_add_(0, cell_of_row, rows)


def voxel_means(points: Tensor, size: float) -> Tensor:
    """Mean points (M, 3) float64 of those of the points (N, 3) that are finite, in cubes of side
    `size`.
    """
    finite = points[points.isfinite().all(1)].double()
    if len(finite) == 0:
        return finite
    grid = VoxelMeans(size, finite.median(0).values, most=len(finite))
    grid.add(finite)
    return grid.means()
