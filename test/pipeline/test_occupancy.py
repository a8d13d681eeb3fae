from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.occupancy import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    OccupancyGrid,
    occupancy_grid,
)
from vggt3_ros.scene.depth import KeyframeDepth

from .boxes import keyframes, poses

SHELL = ((-2.02, -1.52, 0.0), (2.02, 1.52, 2.5))
PILLAR = ((0.51, -0.19, 0.0), (0.84, 0.14, 2.5))
TABLE = ((-0.59, 0.81, 0.7), (0.09, 1.29, 0.74))  # without legs
SILL = ((-0.59, -1.29, 0.0), (-0.21, -1.01, 0.06))  # a robot drives over it
LAMP = ((-1.49, -0.29, 1.7), (-1.11, 0.09, 2.0))
EYES = [(x, y, 0.9) for x in (-1.6, 1.6) for y in (-0.6, 0.6)]


def all_around() -> torch.Tensor:
    """Cameras at four places that look everywhere, a little down; at each turn from two."""
    steps = torch.arange(6) * torch.pi / 3
    ahead = torch.stack([steps.cos(), steps.sin()], dim=1).tolist()
    return poses([(eye, (eye[0] + x, eye[1] + y, 0.75)) for eye in EYES for x, y in ahead])


@pytest.fixture(scope="module")
def room() -> KeyframeDepth:
    return keyframes(SHELL, [PILLAR, TABLE, SILL, LAMP], all_around())


def at(grid: OccupancyGrid, x: float, y: float) -> int:
    column = int((x - grid.origin[0]) // grid.resolution)
    row = int((y - grid.origin[1]) // grid.resolution)
    rows, columns = grid.cells.shape
    return int(grid.cells[row, column]) if 0 <= row < rows and 0 <= column < columns else UNKNOWN


def cells_of(grid: OccupancyGrid, value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the centres of the cells with a value."""
    row, column = (grid.cells == value).nonzero().unbind(1)
    return (
        grid.origin[0] + (column + 0.5) * grid.resolution,
        grid.origin[1] + (row + 0.5) * grid.resolution,
    )


def test_walls_and_what_stands_in_the_room_are_occupied(room: KeyframeDepth) -> None:
    grid = occupancy_grid(room, 0.0)
    x, y = cells_of(grid, OCCUPIED)
    wall = ((x.abs() - 2.02).abs() < 0.03) | ((y.abs() - 1.52).abs() < 0.03)
    inside = torch.zeros_like(wall)
    for low, high in (PILLAR, TABLE):
        inside |= (
            (x > low[0] - 0.03) & (x < high[0] + 0.03) & (y > low[1] - 0.03) & (y < high[1] + 0.03)
        )
    assert bool((wall | inside).all())
    assert int(wall.sum()) > 0.95 * 2 * (4.04 + 3.04) / 0.05
    assert at(grid, -0.3, 1.0) == OCCUPIED  # the table top, though keyframes look below it


def test_what_is_under_or_above_the_heights_is_in_nobodys_way(room: KeyframeDepth) -> None:
    grid = occupancy_grid(room, 0.0)
    assert at(grid, -0.4, -1.15) == FREE
    assert at(grid, -1.3, -0.1) == FREE
    taller = occupancy_grid(room, 0.0, GridSettings(high=1.9))
    assert at(taller, -1.13, -0.1) == OCCUPIED
    finer = occupancy_grid(room, 0.0, GridSettings(low=0.03))
    assert at(finer, -0.4, -1.15) == OCCUPIED


def test_no_cell_is_free_in_a_wall_or_behind_one(room: KeyframeDepth) -> None:
    grid = occupancy_grid(room, 0.0)
    x, y = cells_of(grid, FREE)
    assert bool((x.abs() < 2.02).all() and (y.abs() < 1.52).all())
    assert not bool(((x > 0.51) & (x < 0.84) & (y > -0.19) & (y < 0.14)).any())
    assert at(grid, 0.7, 0.0) == UNKNOWN
    assert len(x) > 0.75 * 4.04 * 3.04 / 0.05**2


def test_what_lies_behind_a_thing_is_unknown() -> None:
    views = poses([((-1.5, y, 0.9), (1.0, y, 0.5)) for y in (-0.1, 0.0)])
    grid = occupancy_grid(keyframes(SHELL, [PILLAR], views), 0.0)
    assert at(grid, 0.53, 0.0) == OCCUPIED
    assert at(grid, 1.2, 0.0) == UNKNOWN
    assert at(grid, 0.0, 0.0) == FREE


def test_a_cell_over_which_cameras_only_look_is_unknown() -> None:
    """A box could stand there, lower than where they look."""
    views = poses([((-1.5, y, 1.2), (1.0, y, 1.2)) for y in (-0.1, 0.1)])
    grid = occupancy_grid(keyframes(SHELL, [], views), 0.0)
    assert at(grid, -1.0, 0.0) == UNKNOWN
    assert at(grid, 1.5, 0.0) == FREE


def test_one_keyframe_that_sees_through_a_wall_frees_nothing(room: KeyframeDepth) -> None:
    wrong = room.depth.clone()
    wrong[3] *= 1.6
    grid = occupancy_grid(replace(room, depth=wrong), 0.0)
    x, y = cells_of(grid, FREE)
    assert bool((x.abs() < 2.02).all() and (y.abs() < 1.52).all())
    assert at(grid, 2.03, 0.3) == OCCUPIED


def test_what_more_keyframes_look_through_is_not_there(room: KeyframeDepth) -> None:
    near = room.depth.clone()
    near[0, 20:40, 30:50] = 0.8
    grid = occupancy_grid(replace(room, depth=near), 0.0)
    assert grid.count(OCCUPIED) < 1.1 * occupancy_grid(room, 0.0).count(OCCUPIED)


def test_depth_that_is_not_sure_takes_free_cells_away_and_makes_none(room: KeyframeDepth) -> None:
    far = replace(room, provenance=torch.full_like(room.provenance, int(Provenance.FAR)))
    with pytest.raises(InputError, match="no keyframe has depth that others agree with"):
        occupancy_grid(far, 0.0)
    unsure = room.provenance.clone()
    unsure[:, 15:45] = int(Provenance.FAR)
    certain = occupancy_grid(room, 0.0)
    grid = occupancy_grid(replace(room, provenance=unsure), 0.0)
    assert grid.count(FREE) < certain.count(FREE)
    assert grid.count(OCCUPIED) < certain.count(OCCUPIED)


def test_grid_follows_the_map_and_the_floor(room: KeyframeDepth) -> None:
    moved = room.world_from_cam.clone()
    moved[:, :3, 3] += torch.tensor([-31.0, 12.0, 3.0])
    grid = occupancy_grid(room, 0.0)
    other = occupancy_grid(replace(room, world_from_cam=moved), 3.0)
    same = (other.cells == grid.cells).double().mean()
    assert float(same) > 0.995  # up to rounding on the borders of cells
    assert other.origin == pytest.approx((grid.origin[0] - 31, grid.origin[1] + 12))


def test_resolution_is_that_of_the_cells(room: KeyframeDepth) -> None:
    grid = occupancy_grid(room, 0.0, GridSettings(resolution=0.1))
    x, y = cells_of(grid, OCCUPIED)
    assert float(x.max() - x.min()) == pytest.approx(4.1, abs=0.11)
    assert grid.cells.shape[1] * 0.1 == pytest.approx(4.04, abs=0.5)
    with pytest.raises(InputError, match="too large; give a coarser resolution"):
        occupancy_grid(room, 0.0, GridSettings(resolution=0.0001, low=0.1, high=0.2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resolution": 0.0}, "resolution of a grid must be metres above 0, got 0.0"),
        ({"reach": float("nan")}, "reach of a grid must be metres above 0, got nan"),
        ({"low": 0.5, "high": 0.5}, "at least a cell .0.05 m. apart, got 0.5 and 0.5"),
    ],
)
def test_settings_that_make_no_grid_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GridSettings(**given)
