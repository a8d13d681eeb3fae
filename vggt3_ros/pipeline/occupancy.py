"""Occupancy grids of keyframes' depth: what is in a robot's way, between two heights above the
floor, seen from above.

A cell is occupied where depth ends in it within these heights, unless more keyframes look through
there, or most depth ends in the cell before or behind it, on what seems to be the same wall. It is
free where two keyframes look through it near the floor, or see its floor: what stands there would
have been in the way, and what hangs above is seen by itself. All else is unknown, such as what lies
behind a surface, what is closer before one than a cell, and where depth ends, or close to where it
ends, of which keyframes are not sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.pipeline.grid_lattice import Ends, GridSettings, Lattice, Look
from vggt3_ros.scene.depth import KeyframeDepth

FREE = 0
OCCUPIED = 100
UNKNOWN = -1
_KNOWN = (Provenance.AGREED, Provenance.PLANE, Provenance.NEAR)
_MIN_POINTS = 2  # in a voxel, or on the floor of a cell, to be believed
_MIN_KEYFRAMES = 2  # that see a cell empty: single ones carry planes on through things
_UP = 2  # the axis that level surfaces face
_SHARE = 0.25  # of the ends in the cell before or behind, for a surface to be in two cells
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
    known, not_known = _known_and_unsure(depth, settings.reach)
    looks = _looks(known, depth)
    unsure = _looks(not_known, depth)
    if not looks:
        raise InputError(
            f"no keyframe has depth that others agree with within {settings.reach:g} m; map the"
            " place again with images that overlap more"
        )
    spacing = settings.resolution / 2
    ends = [look.ends(spacing) for look in looks]
    lattice = Lattice.around(torch.cat([each.points for each in ends]), floor_z, settings)
    cells = torch.full((lattice.rows, lattice.columns), UNKNOWN, dtype=torch.int8)
    cells.view(-1)[_free(lattice, looks, ends)] = FREE
    cells[_unsure(lattice, unsure, spacing)] = UNKNOWN
    found = _surfaces(lattice, looks, ends)
    cells[found.sum(0) > 0] = UNKNOWN
    cells[_thinned(found)] = OCCUPIED
    x, y = lattice.first
    size = settings.resolution
    return OccupancyGrid(cells, (x * size, y * size), size, floor_z)


def _looks(known: Tensor, depth: KeyframeDepth) -> list[Look]:
    """Of each keyframe that has any of such depth (S, h, w)."""
    return [
        Look(each, intrinsics, world_from_cam)
        for each, intrinsics, world_from_cam in zip(
            known, depth.intrinsics, depth.world_from_cam, strict=True
        )
        if bool((each > 0).any())
    ]


def _known_and_unsure(depth: KeyframeDepth, reach: float) -> tuple[Tensor, Tensor]:
    """Depth (S, h, w) float64 of the pixels that count, and of the others; 0 elsewhere."""
    kinds = torch.tensor([int(kind) for kind in _KNOWN], dtype=torch.uint8)
    near = torch.where(depth.depth <= reach, depth.depth, 0.0).double()
    counts = torch.isin(depth.provenance, kinds)
    return torch.where(counts, near, 0.0), torch.where(counts, 0.0, near)


def _free(lattice: Lattice, looks: list[Look], ends: list[Ends]) -> Tensor:
    """Which cells (rows x columns,) enough keyframes see empty."""
    settings = lattice.settings
    keyframes = torch.zeros(lattice.rows * lattice.columns, dtype=torch.int32)
    for look, own in zip(looks, ends, strict=True):
        cell, height, facing = lattice.cells(own)
        around = _rectangle(lattice, cell)
        level = (height.abs() < settings.low) & (facing == _UP)  # and no foot of a wall
        floor = torch.bincount(cell[level], minlength=len(keyframes))
        empty = floor >= _MIN_POINTS
        for layer in _levels(settings):
            waiting = around[~empty[around]]
            centres = lattice.centres(waiting, torch.full((len(waiting),), layer).double())
            empty[waiting] = look.looks_past(centres, settings.resolution)
        keyframes += empty
    return keyframes >= _MIN_KEYFRAMES


def _unsure(lattice: Lattice, looks: list[Look], spacing: float) -> Tensor:
    """Which cells (rows, columns) depth that is not sure ends in, or beside: it errs by several
    centimetres, and a table top that nothing else shows must not be free.
    """
    unsure = torch.zeros(lattice.rows, lattice.columns)
    for look in looks:
        unsure.view(-1)[lattice.in_the_way(look.ends(spacing))[0]] = 1
    return max_pool2d(unsure[None], 3, stride=1, padding=1)[0] > 0


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


def _surfaces(lattice: Lattice, looks: list[Look], ends: list[Ends]) -> Tensor:
    """How many ends (3, rows, columns) lie in voxels of a column that hold a surface, by the axis
    that this faces.
    """
    settings = lattice.settings
    size = settings.resolution
    layers = math.ceil((settings.high - settings.low) / size)
    found = []
    amounts = []
    for own in ends:
        cell, height, facing = lattice.in_the_way(own)
        layer = ((height - settings.low) / size).long().clamp(max=layers - 1)
        voxels, place = torch.unique(cell * layers + layer, return_inverse=True)
        found.append(voxels)
        amounts.append(torch.bincount(3 * place + facing, minlength=3 * len(voxels)).view(-1, 3))
    voxels, place, having = torch.unique(torch.cat(found), return_inverse=True, return_counts=True)
    ending = torch.zeros(len(voxels), 3, dtype=torch.long).index_add_(0, place, torch.cat(amounts))
    heights = settings.low + (voxels % layers + 0.5).double() * size
    centres = lattice.centres(voxels // layers, heights)
    past = torch.zeros_like(having)
    for look in looks:
        past += look.looks_past(centres, size)
    solid = (ending.sum(1) >= _MIN_POINTS) & (having >= past)
    columns = torch.zeros(lattice.rows * lattice.columns, 3, dtype=torch.long)
    columns.index_add_(0, voxels[solid] // layers, ending[solid])
    return columns.T.reshape(3, lattice.rows, lattice.columns)


def _thinned(found: Tensor) -> Tensor:
    """Which cells (rows, columns) are occupied, of ends (3, rows, columns) on surfaces by what they
    face.

    Depth errs by less than a cell, but in many keyframes: a wall would be two or three cells thick.
    What faces sideways counts where it is at least a share of what the cells before and behind it
    have. What faces up counts as it is, for its errors move it up and down.
    """
    sideways = found[0] + found[1]
    occupied = found[2] >= _MIN_POINTS
    for axis, along in ((0, 1), (1, 0)):
        least = _SHARE * _beside(sideways, along)
        occupied |= (found[axis] >= _MIN_POINTS) & (found[axis] >= least)
    return occupied


def _beside(values: Tensor, along: int) -> Tensor:
    """The greater of the two values beside each of (rows, columns), along rows (0) or columns."""
    none = torch.zeros_like(values.narrow(along, 0, 1))
    count = values.shape[along] - 1
    before = torch.cat([none, values.narrow(along, 0, count)], dim=along)
    behind = torch.cat([values.narrow(along, 1, count), none], dim=along)
    return before.maximum(behind)
