"""The true occupancy grid of a procedural place, from its exact surfaces and what a drive saw of
them, and how far an estimated grid is from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.occupancy import FREE, OCCUPIED, UNKNOWN, OccupancyGrid
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.sequence import held_out_seed
from vggt3_ros.worlds.solids import in_sight, inside, surface_points

_POINTS = 4  # on a surface along the side of a cell
_NOT_FAR_BEHIND = 1.05  # times the depth around
_AROUND = 16  # points on the circle of half a cell around a cell's centre


class Truth(IntEnum):
    """What is in the column of a cell, between the two heights.

    SURFACE: a surface of which a map frame sees a point in this column. HIDDEN: surfaces that no
    map frame sees. OPEN: nothing, and a map frame sees the lower end of the column. UNVISITED:
    nothing, and none does. SOLID: no surface, since all of it lies within something, or outside the
    place.
    """

    SOLID = 0
    SURFACE = 1
    HIDDEN = 2
    OPEN = 3
    UNVISITED = 4


@dataclass(frozen=True, eq=False)
class TrueGrid:
    """cells (rows, columns) int8 of `Truth`, rows along y, columns along x of the true world, whose
    floor is at 0; first: x and y of the first cell, in cells from 0. room: what it is the grid of.
    """

    cells: Tensor
    first: tuple[int, int]
    room: RoomBatch
    settings: GridSettings


@dataclass(frozen=True)
class GridScore:
    """How far a grid is from the truth, in its own cells.

    occupied_iou: of cells called occupied, and those that are SURFACE, without HIDDEN ones, of
    which nobody can know. occupied_iou_near: the same where a cell of one that lies beside a cell
    of the other is as good as in it. free_iou: of cells called free, and those that are OPEN,
    without UNVISITED ones. free_inside: cells called free of which the circle of half a cell around
    the centre lies within something, seen from above. false_occupied: cells called occupied in
    whose column nothing is. unknown: share of SURFACE and OPEN cells that are called neither.
    """

    occupied_iou: float
    occupied_iou_near: float
    free_iou: float
    free_inside: int
    false_occupied: int
    unknown: float


def true_grid(
    sequence: Sequence,
    map_indices: Items[int],
    settings: GridSettings,
    progress: Callable[[], None] | None = None,
) -> TrueGrid:
    """The grid that a perfect map of these frames would have.

    Exact surfaces are sampled at a quarter of a cell or finer, and what hides a point is told by
    casting a ray at it from the true camera. Surfaces between things that touch are none. progress
    is called before each frame. Raises InputError for sequences that are not procedural.
    """
    progress = progress or (lambda: None)
    place = sequence.place
    if place is None:
        raise InputError(
            f"{sequence.name} has no exact surfaces; give a procedural place such as room:SEED"
        )
    room = make_rooms([held_out_seed(place.seed)], plan=place.plan)
    size = settings.resolution
    low, high = room.bounds[0, :, :2].double() / size
    first = torch.floor(low).long() - 1
    columns, rows = (torch.floor(high).long() - first + 2).tolist()
    grid = TrueGrid(
        torch.zeros(rows, columns, dtype=torch.int8), (int(first[0]), int(first[1])), room, settings
    )
    points = surface_points(room, size / _POINTS, settings.low, settings.high)
    column, row = (torch.floor(points[:, :2] / size).long() - first).unbind(1)
    cell = row * columns + column
    lower = _centres(grid, torch.arange(rows * columns))
    lower[:, 2] = settings.low
    bare = torch.ones(rows * columns, dtype=torch.bool)
    bare[cell] = False
    bare &= ~inside(room, lower)  # without a surface, a column is solid or open as a whole
    surface, visited = (torch.zeros(rows * columns, dtype=torch.bool) for _ in range(2))
    for index in map_indices:
        progress()
        asked = (~surface[cell]).nonzero()[:, 0]
        surface[cell[asked[_seen(sequence, index, room, points[asked])]]] = True
        asked = (bare & ~visited).nonzero()[:, 0]
        visited[asked[_seen(sequence, index, room, lower[asked])]] = True
    flat = grid.cells.view(-1)
    flat[cell] = int(Truth.HIDDEN)
    flat[surface] = int(Truth.SURFACE)
    flat[bare] = int(Truth.UNVISITED)
    flat[bare & visited] = int(Truth.OPEN)
    return grid


def score(grid: OccupancyGrid, truth: TrueGrid) -> GridScore:
    """Compare a grid whose map frame is the true world. Raises InputError for other cells."""
    given, true = on_one_canvas(grid, truth)
    occupied = given == OCCUPIED
    free = given == FREE
    surface = true == Truth.SURFACE
    known = true != Truth.HIDDEN
    is_open = true == Truth.OPEN
    both = surface & _beside(occupied)
    either = surface | (occupied & known & ~_beside(surface))
    told = surface | is_open
    return GridScore(
        occupied_iou=_share(occupied & surface, (occupied & known) | surface),
        occupied_iou_near=_share(both, either),
        free_iou=_share(free & is_open, (free & (true != Truth.UNVISITED)) | is_open),
        free_inside=_free_inside(grid, truth),
        false_occupied=int((occupied & (is_open | (true == Truth.UNVISITED))).sum()),
        unknown=_share(told & (given == UNKNOWN), told),
    )


def on_one_canvas(grid: OccupancyGrid, truth: TrueGrid) -> tuple[Tensor, Tensor]:
    """Cells (rows, columns) of both, where either has any. Outside the truth all is SOLID. Raises
    InputError where cells are of another size, or placed otherwise.
    """
    size = truth.settings.resolution
    corner = [value / size for value in grid.origin]
    first = [round(value) for value in corner]
    placed = max(abs(value - whole) for value, whole in zip(corner, first, strict=True))
    if grid.resolution != size or placed > 1e-6:
        raise InputError(
            f"a grid of {grid.resolution:g} m that begins at {grid.origin} is compared with one of"
            f" {size:g} m that begins at whole multiples of that"
        )
    parts = ((grid.cells, first), (truth.cells, truth.first))
    begins = np.array([begin for _, begin in parts])
    ends = begins + [cells.shape[::-1] for cells, _ in parts]
    low_x, low_y = begins.min(0).tolist()
    high_x, high_y = ends.max(0).tolist()
    canvases = []
    for (cells, (x, y)), nothing in zip(parts, (UNKNOWN, int(Truth.SOLID)), strict=True):
        canvas = torch.full((high_y - low_y, high_x - low_x), nothing, dtype=torch.int8)
        rows, columns = cells.shape
        canvas[y - low_y : y - low_y + rows, x - low_x : x - low_x + columns] = cells
        canvases.append(canvas)
    return canvases[0], canvases[1]


def _seen(sequence: Sequence, index: int, room: RoomBatch, points: Tensor) -> Tensor:
    """Which (M,) of points (N, 3) a frame sees.

    Rays are cast at those alone that are not far behind what its true depth shows around them.
    """
    true_depth = sequence.frame(index, with_depth=True).depth
    assert true_depth is not None  # every procedural place has it
    depth = torch.from_numpy(true_depth).double()
    height, width = depth.shape
    pose = sequence.world_from_cam[index]
    pixels, z = project(transform_points(se3_inverse(pose), points), sequence.intrinsics)
    column, row = pixels.nan_to_num(-1.0, -1.0, -1.0).round().long().unbind(1)
    near = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    farthest = max_pool2d(depth[None], 3, stride=1, padding=1)[0]
    there = farthest[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    candidates = (near & (z < _NOT_FAR_BEHIND * there)).nonzero()[:, 0]
    return candidates[in_sight(room, points[candidates], pose[:3, 3])]


def _free_inside(grid: OccupancyGrid, truth: TrueGrid) -> int:
    """How many free cells lie in something by more than half a cell, seen from above."""
    size = grid.resolution
    row, column = (grid.cells == FREE).nonzero().unbind(1)
    centres = torch.stack([column, row], dim=1).double() + 0.5
    centres = centres * size + torch.tensor(grid.origin).double()
    centres = centres[_in_something(centres, size / 2, truth)]  # few: the others are not within
    turns = torch.arange(_AROUND).double() * (2 * math.pi / _AROUND)
    circle = torch.stack([turns.cos(), turns.sin()], dim=1) * (size / 2)
    around = (centres[:, None] + circle).flatten(0, 1)
    return int(_in_something(around, size / 2, truth).view(-1, _AROUND).all(1).sum())


def _in_something(spots: Tensor, step: float, truth: TrueGrid) -> Tensor:
    """Whether (N,) something solid is above spots (N, 2) of the floor, between the two heights of
    the truth, asked for every `step` metres.
    """
    hit = torch.zeros(len(spots), dtype=torch.bool)
    for height in torch.arange(truth.settings.low, truth.settings.high, step).tolist():
        level = torch.cat([spots, torch.full_like(spots[:, :1], height)], dim=1)
        hit |= inside(truth.room, level)
    return hit


def _centres(grid: TrueGrid, cells: Tensor) -> Tensor:
    """Points (N, 3) at the centres of cells (N,), on the floor."""
    columns = grid.cells.shape[1]
    x = (cells % columns + grid.first[0] + 0.5) * grid.settings.resolution
    y = (cells // columns + grid.first[1] + 0.5) * grid.settings.resolution
    return torch.stack([x, y, torch.zeros_like(x)], dim=1).double()


def _beside(cells: Tensor) -> Tensor:
    """These cells (rows, columns) bool and those beside them, corner to corner as well."""
    return max_pool2d(cells[None].float(), 3, stride=1, padding=1)[0] > 0


def _share(part: Tensor, whole: Tensor) -> float:
    """How much of the whole is in the part; NaN where there is nothing."""
    return int(part.sum()) / int(whole.sum()) if bool(whole.any()) else math.nan
