"""The occupancy grid of the newest scene: made in a thread of its own, published latched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nav_msgs.msg import OccupancyGrid as GridMessage
from rclpy.node import Node

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.messages.grids import grid_message
from vggt3_ros.nodes.messages.qos import LATCHED
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.scene_grid import scene_grid
from vggt3_ros.scene.scene import Scene


class GridOutput:
    """The publisher of `grid`. settings(): those of this moment. For any thread."""

    def __init__(self, node: Node, settings: Callable[[], MapperParameters]) -> None:
        self._node = node
        self._settings = settings
        self._newest: Scene | None = None
        self._publisher = node.create_publisher(GridMessage, "grid", LATCHED)
        self._thread = ThreadPoolExecutor(1, "grid")

    def close(self) -> None:
        """Wait for a grid in the making, destroy the publisher."""
        self._newest = None
        self._thread.shutdown(cancel_futures=True)
        self._node.destroy_publisher(self._publisher)

    def publish(self, scene: Scene) -> None:
        """Begin to make the grid of a scene, if the settings ask for grids."""
        self._newest = scene
        if self._settings().grid:
            self._thread.submit(self._make, scene)

    def _make(self, scene: Scene) -> None:
        """Publish a scene's grid, one without cells where it can have none: whoever has that of an
        earlier scene is not to go by it.
        """
        if scene is not self._newest:
            return
        settings = self._settings()
        message = GridMessage()
        log = self._node.get_logger()
        try:
            message = grid_message(scene_grid(scene, _grid_settings(settings)))
        except InputError as error:
            log.warning(f"no occupancy grid of scene {scene.scene_id[:8]}: {error}")
        except Exception as error:  # nobody else sees what a thread raises
            log.error(f"the occupancy grid failed by a bug in this program: {error!r}")
        if scene is self._newest:
            message.header.frame_id = settings.map_frame
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.info.map_load_time = message.header.stamp
            self._publisher.publish(message)


def _grid_settings(settings: MapperParameters) -> GridSettings:
    return GridSettings(
        resolution=settings.grid_resolution,
        low=settings.grid_low,
        high=settings.grid_high,
        reach=settings.grid_reach,
    )
