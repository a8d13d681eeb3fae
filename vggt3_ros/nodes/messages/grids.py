"""Occupancy grids as nav_msgs/OccupancyGrid."""

from __future__ import annotations

import array

from nav_msgs.msg import OccupancyGrid as GridMessage

from vggt3_ros.pipeline.occupancy import OccupancyGrid


def grid_message(grid: OccupancyGrid) -> GridMessage:
    """The message of a grid, without header: cells row by row from the lowest y, the origin is the
    pose of the outer corner of the first cell, on the floor.
    """
    message = GridMessage()
    message.info.resolution = grid.resolution
    message.info.height, message.info.width = grid.cells.shape
    message.info.origin.position.x, message.info.origin.position.y = grid.origin
    message.info.origin.position.z = grid.floor_z
    message.info.origin.orientation.w = 1.0
    message.data = array.array("b", grid.cells.contiguous().numpy().tobytes())
    return message
