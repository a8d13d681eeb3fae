"""Occupancy grids of keyframes' depth: what is in a robot's way, between two heights above the
floor, seen from above.

A cell is occupied where depth ends in it within these heights, unless more keyframes look through
there. It is free where two keyframes look through it near the floor, or see its floor: what stands
there would have been in the way, and what hangs above is seen by itself. All else is unknown, such
as what lies behind a surface, what is closer before one than a cell, and where depth ends of which
keyframes are not sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.pipeline.grid_lattice import GridSettings, Lattice, Look
from vggt3_ros.scene.depth import KeyframeDepth

FREE = 0
OCCUPIED = 100
UNKNOWN = -1
_KNOWN = (Provenance.AGREED, Provenance.PLANE, Provenance.NEAR)
_MIN_POINTS = 2  # in a voxel, or on the floor of a cell, to be believed
_MIN_KEYFRAMES = 2  # that see a cell empty: single ones carry planes on through things
_NEAR_FLOOR = 1 / 3  # of the upper height: what is seen empty below has nothing standing in it


@dataclass(frozen=True, eq=False)
class OccupancyGrid:
    """cells (rows, columns) int8: FREE, OCCUPIED or UNKNOWN; rows along y, columns along x.

    origin: x and y of the outer corner of the first cell; resolution: side of a cell; floor_z: the
    floor's. All in metres of the map.
    """

    cells: Tensor
    origin: tuple[float, float]
    resolution: float
    floor_z: float

    def count(self, value: int) -> int:
        """How many cells have this value."""
        return int((self.cells == value).sum())


def occupancy_grid(
    depth: KeyframeDepth, floor_z: float, settings: GridSettings | None = None
) -> OccupancyGrid:
    """The grid of keyframes' depth in metres, Z up, above the floor at floor_z.

    Pixels count that other keyframes agree with or that hang together with such. Raises InputError
    where none do within reach, and for cells so small that there are too many.
    """
    settings = settings or GridSettings()
    looks, unsure = (
        [
            Look(*each)
            for each in zip(some, depth.intrinsics, depth.world_from_cam, strict=True)
            if bool((each[0] > 0).any())
        ]
        for some in _known_and_unsure(depth, settings.reach)
    )
    if not looks:
        raise InputError(
            f"no keyframe has depth that others agree with within {settings.reach:g} m; map the"
            " place again with images that overlap more"
        )
    spacing = settings.resolution / 2
    points = [look.points(spacing) for look in looks]
    lattice = Lattice.around(torch.cat(points), floor_z, settings)
    cells = torch.full((lattice.rows, lattice.columns), UNKNOWN, dtype=torch.int8)
    cells.view(-1)[_free(lattice, looks, points)] = FREE
    for look in unsure:
        cells.view(-1)[lattice.in_the_way(look.points(spacing))[0]] = UNKNOWN
    cells.view(-1)[_occupied(lattice, looks, points)] = OCCUPIED
    x, y = lattice.first
    size = settings.resolution
    return OccupancyGrid(cells, (x * size, y * size), size, floor_z)


def _known_and_unsure(depth: KeyframeDepth, reach: float) -> tuple[Tensor, Tensor]:
    """Depth (S, h, w) float64 of the pixels that count, and of the others; 0 elsewhere."""
    kinds = torch.tensor([int(kind) for kind in _KNOWN], dtype=torch.uint8)
    near = torch.where(depth.depth <= reach, depth.depth, 0.0).double()
    counts = torch.isin(depth.provenance, kinds)
    return torch.where(counts, near, 0.0), torch.where(counts, 0.0, near)


def _free(lattice: Lattice, looks: list[Look], points: list[Tensor]) -> Tensor:
    """Which cells (rows x columns,) enough keyframes see empty."""
    settings = lattice.settings
    keyframes = torch.zeros(lattice.rows * lattice.columns, dtype=torch.int32)
    for look, ends in zip(looks, points, strict=True):
        cell, height = lattice.cells(ends)
        around = _rectangle(lattice, cell)
        floor = torch.bincount(cell[height.abs() < settings.low], minlength=len(keyframes))
        empty = floor >= _MIN_POINTS
        for level in _levels(settings):
            waiting = around[~empty[around]]
            centres = lattice.centres(waiting, torch.full((len(waiting),), level).double())
            empty[waiting] = look.looks_past(centres, settings.resolution)
        keyframes += empty
    return keyframes >= _MIN_KEYFRAMES


def _levels(settings: GridSettings) -> Iterator[float]:
    """Heights of the layers of voxels near the floor, above what counts as the floor."""
    level = settings.low + settings.resolution / 2
    highest = max(_NEAR_FLOOR * settings.high, level)
    while level <= highest:
        yield level
        level += settings.resolution


def _rectangle(lattice: Lattice, cells: Tensor) -> Tensor:
    """All cells (M,) of the rectangle around some (N,)."""
    if len(cells) == 0:
        return cells
    rows, columns = (
        torch.arange(int(part.min()), int(part.max()) + 1)
        for part in (cells // lattice.columns, cells % lattice.columns)
    )
    return (rows[:, None] * lattice.columns + columns).flatten()


def _occupied(lattice: Lattice, looks: list[Look], points: list[Tensor]) -> Tensor:
    """Which cells (N,) have a surface between the two heights."""
    settings = lattice.settings
    size = settings.resolution
    layers = math.ceil((settings.high - settings.low) / size)
    found = []
    amounts = []
    for ends in points:
        cell, height = lattice.in_the_way(ends)
        layer = ((height - settings.low) / size).long().clamp(max=layers - 1)
        voxels, counts = torch.unique(cell * layers + layer, return_counts=True)
        found.append(voxels)
        amounts.append(counts)
    voxels, place, having = torch.unique(torch.cat(found), return_inverse=True, return_counts=True)
    ending = torch.zeros_like(having).index_add_(0, place, torch.cat(amounts))
    heights = settings.low + (voxels % layers + 0.5).double() * size
    centres = lattice.centres(voxels // layers, heights)
    past = torch.zeros_like(having)
    for look in looks:
        past += look.looks_past(centres, size)
    solid = (ending >= _MIN_POINTS) & (having >= past)
    cells: Tensor = torch.unique(voxels[solid] // layers)
    return cells
