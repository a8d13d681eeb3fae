"""The occupancy grid that the mapper publishes of a scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node

from vggt3_ros.nodes.mapper.grid_output import GridOutput
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.scene_grid import scene_grid
from vggt3_ros.scene.scene import Scene

from ..pipeline.boxes import keyframes, poses
from ..scene.conftest import build_scene
from .processes import wait_for
from .robot import latched

SHELL = ((-2.02, -1.52, 0.0), (2.02, 1.52, 2.5))
VIEWS = [((-1.5, y, 0.9), (1.0, y, 0.5)) for y in (-0.3, 0.0, 0.3)]


@pytest.fixture(scope="module")
def scene() -> Scene:
    depth = keyframes(SHELL, [], poses(VIEWS))
    return replace(build_scene(2.0), up_source="pose_priors", depth=depth)


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"grid_resolution": 0.1, "map_frame": "house"}


@pytest.fixture
def output(node: Node, settings: dict[str, Any]) -> Iterator[GridOutput]:
    output = GridOutput(node, lambda: MapperParameters(**settings))
    yield output
    output.close()


def test_whoever_comes_late_gets_the_grid_of_the_newest_scene(
    node: Node, output: GridOutput, scene: Scene
) -> None:
    output.publish(scene)
    heard = latched(node, OccupancyGrid, "grid")
    message = wait_for(lambda: heard and heard[-1], "the grid")
    grid = scene_grid(scene, GridSettings(resolution=0.1))
    rows, columns = grid.cells.shape
    info = message.info
    assert (info.height, info.width) == (rows, columns)
    np.testing.assert_array_equal(np.reshape(message.data, (rows, columns)), grid.cells.numpy())
    assert info.resolution == pytest.approx(0.1) and message.header.frame_id == "house"
    position = info.origin.position
    assert (position.x, position.y, position.z) == pytest.approx((*grid.origin, grid.floor_z))
    assert info.origin.orientation.w == 1.0 and info.map_load_time.sec > 0


def test_a_scene_without_a_grid_takes_that_of_the_earlier_one_away(
    node: Node, output: GridOutput, scene: Scene
) -> None:
    heard = latched(node, OccupancyGrid, "grid")
    output.publish(scene)
    wait_for(lambda: heard and heard[-1].info.width > 0, "the grid")
    output.publish(replace(scene, depth=None))
    wait_for(lambda: heard[-1].info.width == 0 and not heard[-1].data, "a grid without cells")


def test_no_grid_is_made_unless_wanted(
    node: Node, output: GridOutput, scene: Scene, settings: dict[str, Any]
) -> None:
    settings["grid"] = False
    heard = latched(node, OccupancyGrid, "grid")
    output.publish(scene)
    settings["grid"] = True
    output.publish(replace(scene, depth=None))
    wait_for(lambda: heard, "the second scene's")
    assert heard[0].info.width == 0 and len(heard) == 1


@pytest.mark.parametrize(("low", "high", "wrong"), [(0.1, 1.5, 0), (0.5, 0.5, 1)])
def test_heights_that_leave_no_cell_are_refused(low: float, high: float, wrong: int) -> None:
    said = MapperParameters(grid_low=low, grid_high=high).contradictions()
    assert len(said) == wrong and all("grid_high is 0.5" in each for each in said)
