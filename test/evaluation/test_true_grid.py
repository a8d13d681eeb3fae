"""The true grid of a room, and grids compared with it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import vggt3_ros.worlds.sequence
from vggt3_ros.cli.main import main
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.grids import GridRow, heading, line, totals
from vggt3_ros.evaluation.true_grid import TrueGrid, Truth, score, true_grid
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.occupancy import FREE, OCCUPIED, UNKNOWN, OccupancyGrid

SIZE = 0.05


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Rooms have ten map frames along 2.5 m."""
    short = partial(
        vggt3_ros.worlds.sequence.room_sequence, map_frames=10, query_frames=1, length=2.5
    )
    patch.setattr(vggt3_ros.worlds.sequence, "room_sequence", short)


@pytest.fixture(scope="module")
def room() -> Sequence:
    """What a short drive in a room sees."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return load_sequence("room:900002")


@pytest.fixture(scope="module")
def truth(room: Sequence) -> TrueGrid:
    return true_grid(room, room.split().map, GridSettings())


def perfect(truth: TrueGrid) -> OccupancyGrid:
    """The grid that says what is true."""
    cells = torch.full_like(truth.cells, UNKNOWN)
    cells[truth.cells == Truth.SURFACE] = OCCUPIED
    cells[truth.cells == Truth.OPEN] = FREE
    x, y = truth.first
    return OccupancyGrid(cells, (x * SIZE, y * SIZE), SIZE, 0.0)


def test_truth_has_walls_that_were_seen_others_and_the_floor_between(truth: TrueGrid) -> None:
    counts = torch.bincount(truth.cells.flatten().long(), minlength=len(Truth))
    assert int(counts.min()) > 100  # of each kind
    edges = torch.cat([truth.cells[0], truth.cells[-1], truth.cells[:, 0], truth.cells[:, -1]])
    assert bool((edges == Truth.SOLID).all())
    wall = truth.cells[1, 1:-1]
    assert bool(((wall == Truth.SURFACE) | (wall == Truth.HIDDEN)).all())


def test_a_perfect_grid_scores_one_and_surfaces_nobody_saw_count_neither_way(
    truth: TrueGrid,
) -> None:
    grid = perfect(truth)
    best = score(grid, truth)
    assert best.occupied_iou == best.occupied_iou_near == best.free_iou == 1
    assert best.free_inside == best.false_occupied == best.unknown == 0
    cells = grid.cells.clone()
    cells[truth.cells == Truth.HIDDEN] = OCCUPIED
    assert score(replace(grid, cells=cells), truth) == best


def test_a_grid_moved_by_a_cell_is_wrong_but_near(truth: TrueGrid) -> None:
    grid = perfect(truth)
    moved = score(replace(grid, origin=(grid.origin[0] + SIZE, grid.origin[1])), truth)
    assert moved.occupied_iou < 0.8 and moved.occupied_iou_near > 0.95
    assert moved.false_occupied > 0


def test_free_cells_in_something_and_unknown_ones_are_counted(truth: TrueGrid) -> None:
    grid = perfect(truth)
    cells = grid.cells.clone()
    cells[0, :5] = FREE  # outside
    cells[truth.cells == Truth.OPEN] = UNKNOWN
    worse = score(replace(grid, cells=cells), truth)
    assert worse.free_inside == 5 and worse.free_iou == 0
    assert 0 < worse.unknown < 1
    cells = torch.where(truth.cells == Truth.OPEN, OCCUPIED, cells).to(torch.int8)
    wrong = score(replace(grid, cells=cells), truth)
    assert wrong.false_occupied == int((truth.cells == Truth.OPEN).sum())


def test_other_cells_and_places_without_exact_surfaces_are_refused(
    room: Sequence, truth: TrueGrid
) -> None:
    grid = perfect(truth)
    for other in (replace(grid, resolution=0.1), replace(grid, origin=(0.01, 0.0))):
        with pytest.raises(InputError, match="is compared with one of 0.05 m that begins at whole"):
            score(other, truth)
    with pytest.raises(InputError, match="no exact surfaces; give a procedural place such as"):
        true_grid(replace(room, place=None), room.split().map, GridSettings())


def test_the_command_maps_a_place_and_compares_its_grid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shorten(monkeypatch)
    assert main(["bench", "grid", "room:900002", "--json", str(tmp_path / "grid.json")]) == 0
    data = json.loads((tmp_path / "grid.json").read_text())
    row = data["rows"][0]
    assert row["reason"] == "" and row["occupied_iou"] > 0.3 and row["free_iou"] > 0.4
    assert row["occupied_iou_near"] > row["occupied_iou"] and row["unknown"] < 0.5
    assert data["totals"]["places"] == 1
    assert "1 places: IoU of occupied" in capsys.readouterr().out


def test_the_command_refuses_what_is_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "grid", "nowhere"]) != 0
    assert "nowhere: no such folder; a sequence is" in capsys.readouterr().err


def test_a_place_without_a_grid_counts_as_nothing_right() -> None:
    good = GridRow("a", occupied_iou=0.8, false_occupied=3, unknown=0.2)
    bad = GridRow("b", reason="not verified")
    assert line(bad).endswith("not verified") and heading().startswith("place")
    total = totals([good, bad])
    assert total["places"] == 2 and total["occupied_iou"] == pytest.approx(0.4)
    assert total["unknown"] == pytest.approx(0.6) and total["false_occupied"] == 3
