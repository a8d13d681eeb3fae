from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.scene_grid import scene_grid
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene

from ..pipeline.boxes import keyframes, poses

ROOM = ((-2.02, -1.52, 0.0), (2.02, 1.52, 2.5))
VIEWS = [((-1.5, y, 0.9), (1.0, y, 0.5)) for y in (-0.9, -0.3, 0.3)]
VIEWS += [((-1.0, y, 0.9), (1.0, 1.0 + y, 0.5)) for y in (-0.5, 0.0)]


@dataclass(frozen=True)
class LoadedMap:
    """As nav_msgs/OccupancyGrid has it: data from the lowest row up, origin that of its corner."""

    data: np.ndarray
    resolution: float
    origin: tuple[float, float, float]


def load_map(path: Path) -> LoadedMap:
    """What nav2_map_server makes of a YAML file, by the documentation of its format (mode
    trinary).
    """
    fields = yaml.safe_load(path.read_text())
    width, height, image = read_pgm(path.parent / fields["image"])
    assert fields["mode"] == "trinary"
    assert len(fields["origin"]) == 3 and fields["negate"] in (0, 1)
    shade = image.reshape(height, width) / 255.0
    occupancy = shade if fields["negate"] else 1.0 - shade
    data = np.full(occupancy.shape, -1, np.int8)
    data[occupancy < fields["free_thresh"]] = 0
    data[occupancy > fields["occupied_thresh"]] = 100
    return LoadedMap(data[::-1], float(fields["resolution"]), tuple(fields["origin"]))


def read_pgm(path: Path) -> tuple[int, int, np.ndarray]:
    """Width, height and pixels of a binary PGM (Netpbm's pgm(5))."""
    magic, width, height, rest = path.read_bytes().split(maxsplit=3)
    most, pixels = rest[:3], rest[4:]
    assert (magic, most) == (b"P5", b"255") and len(pixels) == int(width) * int(height)
    return int(width), int(height), np.frombuffer(pixels, np.uint8)


@pytest.fixture
def metric(scene: Path) -> Path:
    """The scene of five images, in metres, and with depth of a room."""
    changed = replace(
        load_scene(scene),
        is_metric=True,
        metric_source="pose_priors",
        up_source="pose_priors",
        depth=keyframes(ROOM, [], poses(VIEWS)),
    )
    save_scene(changed, scene)
    return scene


def changed(folder: Path, **parts: object) -> Scene:
    scene = replace(load_scene(folder), **parts)
    save_scene(scene, folder)
    return scene


def test_map_is_what_a_map_server_reads_back(vggt3, metric: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "maps" / "room", tmp_path / "figures.json"
    outcome = vggt3("export", metric, "--nav2", out, "--json", figures)
    assert outcome.code == 0 and "cells of 0.05 m" in outcome.out, outcome
    grid = scene_grid(load_scene(metric))
    loaded = load_map(out / "map.yaml")
    np.testing.assert_array_equal(loaded.data, grid.cells.numpy())
    assert {-1, 0, 100} == set(np.unique(loaded.data))
    assert loaded.resolution == 0.05 and loaded.origin == pytest.approx((*grid.origin, 0.0))
    assert sorted(file.name for file in out.iterdir()) == ["map.pgm", "map.yaml"]
    data = json.loads(figures.read_text())["nav2"]
    assert (data["rows"], data["columns"]) == loaded.data.shape
    assert data["occupied"] == (loaded.data == 100).sum() and abs(data["floor_z_m"]) < 0.01


def test_a_place_in_the_map_is_where_its_pixel_is(vggt3, metric: Path, tmp_path: Path) -> None:
    """The wall at x = 2.02 lies right, the one at y = 1.52 up; cameras at x = -1.5 see neither
    left.
    """
    assert vggt3("export", metric, "--nav2", tmp_path / "map").code == 0
    loaded = load_map(tmp_path / "map" / "map.yaml")
    rows, columns = np.nonzero(loaded.data == 100)
    x = loaded.origin[0] + (columns + 0.5) * loaded.resolution
    y = loaded.origin[1] + (rows + 0.5) * loaded.resolution
    assert x.max() == pytest.approx(2.02, abs=0.03) and y.max() == pytest.approx(1.52, abs=0.03)
    assert x.min() > -1.5
    image = read_pgm(tmp_path / "map" / "map.pgm")
    first_row = image[2].reshape(image[1], image[0])[1]  # below the border: y = 1.52
    assert (first_row == 0).sum() > 20


def test_resolution_heights_and_floor_are_as_asked_for(vggt3, metric: Path, tmp_path: Path) -> None:
    options = ("--resolution", 0.1, "--heights", 0.2, 1.0, "--floor", 0.05)
    assert vggt3("export", metric, "--nav2", tmp_path / "map", *options).code == 0
    grid = scene_grid(load_scene(metric), GridSettings(0.1, 0.2, 1.0), 0.05)
    loaded = load_map(tmp_path / "map" / "map.yaml")
    np.testing.assert_array_equal(loaded.data, grid.cells.numpy())
    assert loaded.resolution == 0.1


@pytest.mark.parametrize(
    ("parts", "messages"),
    [
        ({"is_metric": False, "metric_source": "none: no poses"}, ("has no metres (none: no",)),
        ({"up_source": "unsteady cameras"}, ("which way is up", "unsteady cameras")),
        ({"depth": None}, ("has no depth of its keyframes to make a grid of", "map the place")),
    ],
)
def test_scene_that_can_have_no_grid_is_refused_with_what_to_do(
    vggt3, metric: Path, tmp_path: Path, parts: dict[str, object], messages: tuple[str, ...]
) -> None:
    changed(metric, **parts)
    assert vggt3("export", metric, "--nav2", tmp_path / "map").failed_with(*messages)
    assert not (tmp_path / "map").exists()


def test_scene_without_a_floor_asks_for_it(vggt3, metric: Path, tmp_path: Path) -> None:
    level = poses([((-1.5, y, 1.2), (1.0, y, 2.0)) for y in (-0.8, -0.4, 0.0, 0.4, 0.8)])
    changed(metric, depth=keyframes(((-9, -9, -9), (2, 9, 9)), [], level))
    assert vggt3("export", metric, "--nav2", tmp_path / "map").failed_with("no floor", "--floor Z")


def test_a_tilted_map_is_refused(vggt3, metric: Path, tmp_path: Path) -> None:
    depth = load_scene(metric).depth
    assert depth is not None
    tilt = depth.world_from_cam.new_tensor(
        [[0.9848, 0, -0.1736, 0], [0, 1, 0, 0], [0.1736, 0, 0.9848, 0], [0, 0, 0, 1]]
    )
    changed(metric, depth=replace(depth, world_from_cam=tilt @ depth.world_from_cam))
    assert vggt3("export", metric, "--nav2", tmp_path / "map").failed_with("tilted by 10.")


def test_options_that_need_a_grid_and_foreign_folders_are_refused(
    vggt3, metric: Path, tmp_path: Path
) -> None:
    outcome = vggt3("export", metric, "--mesh", tmp_path / "x.ply", "--resolution", 0.1)
    assert outcome.failed_with("--resolution is of a grid", code=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    outcome = vggt3("export", metric, "--nav2", tmp_path / "mine")
    assert outcome.failed_with("--nav2", "notes.txt", "no file of a map of Nav2")
    assert vggt3("export", metric, "--nav2", metric / "map").failed_with("inside the scene")
    outcome = vggt3("export", metric, "--nav2", tmp_path / "map", "--heights", 1.0, 0.5)
    assert outcome.failed_with("at least a cell (0.05 m) apart")
