"""The cells of an occupancy grid in layers of voxels, and what keyframes see of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from vggt3_ros.dense.tangents import tangent_planes
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points

_MAX_CELLS = 100_000_000
_MAX_PARTS = 8  # of the way from pixel to pixel
_SAME_PLANE = 0.02  # relative difference of inverse depth
_REACHES = (1, 2, 4, 8)  # pixels around a voxel's centre, all of which have to look past it


@dataclass(frozen=True)
class GridSettings:
    """resolution: side of a cell. low, high: heights above the floor between which things are in a
    robot's way. reach: how far from its camera a pixel may see. All in metres.

    Raises InputError for numbers that are not above 0, and for heights less than a cell apart.
    """

    resolution: float = 0.05
    low: float = 0.1
    high: float = 1.5
    reach: float = 5.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"{name} of a grid must be metres above 0, got {value}")
        if self.high < self.low + self.resolution:
            raise InputError(
                f"heights of a grid must be at least a cell ({self.resolution:g} m) apart, got"
                f" {self.low:g} and {self.high:g} m"
            )


@dataclass(frozen=True, eq=False)
class Ends:
    """Where a keyframe's pixels end: points (N, 3) float64 in the world, and which axis of the
    world (N,), 0 to 2, the normal of the surface there is closest to.
    """

    points: Tensor
    facing: Tensor


@dataclass(frozen=True)
class Lattice:
    """Voxels in layers from the floor up. first: x and y of the first cell, in cells from 0."""

    first: tuple[int, int]
    rows: int
    columns: int
    floor_z: float
    settings: GridSettings

    @staticmethod
    def around(points: Tensor, floor_z: float, settings: GridSettings) -> Lattice:
        """The lattice with all points (N, 3) up to the upper height, and a cell more on each
        side.
        """
        below = points[points[:, 2] < floor_z + settings.high]
        flat = (below if len(below) else points)[:, :2]
        low = torch.floor(flat.amin(0) / settings.resolution) - 1
        x, y = (int(value) for value in low)
        columns, rows = (
            int(value) + 2 for value in torch.floor(flat.amax(0) / settings.resolution) - low
        )
        if rows * columns > _MAX_CELLS:
            raise InputError(
                f"a grid of {columns} x {rows} cells is too large; give a coarser resolution than"
                f" {settings.resolution:g} m"
            )
        return Lattice((x, y), rows, columns, floor_z, settings)

    def cells(self, ends: Ends) -> tuple[Tensor, Tensor, Tensor]:
        """Cells (n,) of those of N ends that lie in one, counted row by row, their heights (n,)
        above the floor, and what they face (n,).
        """
        points = ends.points
        column, row = torch.floor(points[:, :2] / self.settings.resolution).long().unbind(1)
        column = column - self.first[0]
        row = row - self.first[1]
        inside = (column >= 0) & (column < self.columns) & (row >= 0) & (row < self.rows)
        cell = row * self.columns + column
        return cell[inside], points[inside, 2] - self.floor_z, ends.facing[inside]

    def in_the_way(self, ends: Ends) -> tuple[Tensor, Tensor, Tensor]:
        """The same of those ends alone that lie between the two heights."""
        cell, height, facing = self.cells(ends)
        way = (height >= self.settings.low) & (height < self.settings.high)
        return cell[way], height[way], facing[way]

    def centres(self, cells: Tensor, heights: Tensor) -> Tensor:
        """Points (N, 3) at the centres of cells (N,), so many metres (N,) above the floor."""
        size = self.settings.resolution
        x = (cells % self.columns + self.first[0] + 0.5) * size
        y = (cells // self.columns + self.first[1] + 0.5) * size
        return torch.stack([x, y, heights + self.floor_z], dim=1)


class Look:
    """What one keyframe sees: depth (h, w) float64, 0 where not known, intrinsics (3, 3) and
    world_from_cam (4, 4).
    """

    def __init__(self, depth: Tensor, intrinsics: Tensor, world_from_cam: Tensor) -> None:
        self._depth = depth
        self._intrinsics = intrinsics
        self._world_from_cam = world_from_cam
        # the least depth around each pixel, for each of _REACHES
        self._nearest = torch.stack([_least_around(depth, reach) for reach in _REACHES])

    def ends(self, spacing: float) -> Ends:
        """Where its pixels end, and points between neighbours that are on one surface and farther
        than `spacing` apart.

        Without them, a table top that is seen at a slant would be there in some rows of cells only.
        """
        own = unproject(self._depth, self._intrinsics)
        normals = tangent_planes(self._depth, self._intrinsics) @ self._world_from_cam[:3, :3].T
        facing = normals.abs().argmax(-1)
        corners = torch.stack(_corners(own), dim=-2)
        a, b, c, d = corners.unbind(-2)
        longest = torch.stack([b - a, d - c, c - a, d - b]).norm(dim=-1).amax(0)
        parts = (longest / spacing).ceil().clamp(max=_MAX_PARTS)
        together = _on_one_surface(self._depth, self._intrinsics)
        points = [own[self._depth > 0]]
        faces = [facing[self._depth > 0]]
        for count in range(2, _MAX_PARTS + 1):
            chosen = together & (parts == count)
            between = _weights(count) @ corners[chosen]
            points.append(between.flatten(0, 1))
            faces.append(facing[:-1, :-1][chosen].repeat_interleave(between.shape[1]))
        return Ends(transform_points(self._world_from_cam, torch.cat(points)), torch.cat(faces))

    def looks_past(self, centres: Tensor, size: float) -> Tensor:
        """Whether (N,) all pixels on voxels at centres (N, 3) see farther, by the voxels' size."""
        pixels, z = project(
            transform_points(se3_inverse(self._world_from_cam), centres), self._intrinsics
        )
        height, width = self._depth.shape
        column, row = pixels.nan_to_num(-1.0, -1.0, -1.0).round().unbind(1)
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        wanted = self._intrinsics[0, 0] * size / 2 / z.clamp(min=1e-6)
        index = torch.bucketize(wanted, torch.tensor(_REACHES, dtype=z.dtype))
        close = index == len(_REACHES)  # larger than what was prepared
        row = row.clamp(0, height - 1).long()
        column = column.clamp(0, width - 1).long()
        seen = self._nearest[index.clamp(max=len(_REACHES) - 1), row, column]
        return inside & ~close & (seen > z + size)


def _corners(values: Tensor) -> list[Tensor]:
    """Of an image (h, w, ...) the four corners (h - 1, w - 1, ...) of every square of pixels."""
    return [values[:-1, :-1], values[:-1, 1:], values[1:, :-1], values[1:, 1:]]


def _on_one_surface(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Whether (h - 1, w - 1) the corners of squares of pixels lie on each other's tangent
    planes.
    """
    planes = _corners(tangent_planes(depth, intrinsics))
    rays = _corners(unproject(torch.ones_like(depth), intrinsics))
    inverse = _corners(1 / depth)  # infinite where not known
    fits = [
        (plane * ray).sum(-1) / other - 1
        for plane in planes
        for ray, other in zip(rays, inverse, strict=True)
    ]
    return (torch.stack(fits).abs() < _SAME_PLANE).all(0)


def _weights(count: int) -> Tensor:
    """Weights (K, 4) of the corners of a square for the points of a count x count lattice in it,
    without the first corner.
    """
    steps = torch.arange(count, dtype=torch.float64) / count
    down, across = torch.cartesian_prod(steps, steps)[1:].unbind(1)
    return torch.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], dim=1
    )


def _least_around(depth: Tensor, reach: int) -> Tensor:
    """The least of depth (h, w) in the square of so many pixels each way."""
    side = 2 * reach + 1
    rows = -max_pool2d(-depth.float()[None], (side, 1), stride=1, padding=(reach, 0))
    return -max_pool2d(-rows, (1, side), stride=1, padding=(0, reach))[0]
