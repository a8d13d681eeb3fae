"""The box that a map lies in."""

from __future__ import annotations

from torch import Tensor

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.scene.scene import Corner


def bounds_of(points: PointCloud, map_from_cam: Tensor) -> tuple[Corner, Corner]:
    """Lowest and highest corner of the points, or of the cameras (S, 4, 4) if no point was kept."""
    positions = points.points.double() if len(points) else map_from_cam[:, :3, 3]
    low = positions.amin(0).tolist()
    high = positions.amax(0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
