"""Coloured point clouds to and from sensor_msgs/PointCloud2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.nodes.conversions import header
from vggt3_ros.nodes.images import byte_array

_GREY = (150, 150, 150)
# rgb is announced as a float, as RViz and PCL expect, and holds the bits 0x00RRGGBB.
_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("confidence", "<f4")])


def cloud_message(cloud: PointCloud, map_from_scene: Sim3, frame_id: str, stamp_ns: int) -> PointCloud2:
    """The cloud of a scene (scene units) as PointCloud2 in the map frame `frame_id`.

    Fields x y z (metres if the scene is metric), rgb as RViz packs it, confidence; all float32.
    """
    points = map_from_scene.points(cloud.points.double()).numpy()
    colors = cloud.colors.numpy().astype(np.uint32)
    values = np.empty(len(cloud), dtype=_POINT)
    values["x"], values["y"], values["z"] = points.T
    values["rgb"] = colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    values["confidence"] = cloud.confidence.numpy()
    message = PointCloud2(header=header(frame_id, stamp_ns), height=1, width=len(cloud), is_bigendian=False)
    message.fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(_POINT.names or ())
    ]
    message.point_step = _POINT.itemsize
    message.row_step = _POINT.itemsize * len(cloud)
    message.is_dense = bool(np.isfinite(points).all())
    message.data = byte_array(values)
    return message


def points_and_colors(message: PointCloud2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points (N, 3) float32 and colours (N, 3) uint8 of a cloud with float32 x y z and packed rgb; grey without."""
    fields = {field.name: field.offset for field in message.fields if field.name in ("x", "y", "z", "rgb")}
    order = ">" if message.is_bigendian else "<"
    kinds = [f"{order}u4" if name == "rgb" else f"{order}f4" for name in fields]
    layout = {"names": list(fields), "formats": kinds, "offsets": list(fields.values()), "itemsize": message.point_step}
    values: Any = np.frombuffer(message.data, dtype=np.dtype(layout))  # type: ignore[call-overload]
    points = np.stack([values[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if "rgb" not in fields:
        return points, np.broadcast_to(np.array(_GREY, np.uint8), points.shape)
    return points, np.stack([values["rgb"] >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
