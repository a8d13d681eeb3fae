"""Coloured point clouds to and from sensor_msgs/PointCloud2: the only place where one becomes the
other.

sensor_msgs_py packs and reads them where it works, and numpy elsewhere; the bytes are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.logging import get_logger
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.nodes.messages.conversions import header
from vggt3_ros.nodes.messages.images import byte_array

_GREY = (150, 150, 150)
# rgb is announced as a float, as RViz and PCL expect, and holds the bits 0x00RRGGBB.
_POINT = np.dtype([(name, "<f4") for name in ("x", "y", "z", "rgb", "confidence")])
_KINDS = {PointField.FLOAT32: "f4", PointField.UINT32: "u4"}
_BYTES = 4  # of each of them


def cloud_message(cloud: PointCloud, frame_id: str, stamp_ns: int) -> PointCloud2:
    """The cloud of a scene as PointCloud2 in the map frame `frame_id`.

    Fields x y z (metres if the scene is metric), rgb as RViz packs it, confidence; all float32.
    """
    points = cloud.points.numpy()
    colors = cloud.colors.numpy().astype(np.uint32)
    values = np.empty(len(cloud), dtype=_POINT)
    values["x"], values["y"], values["z"] = points.T
    values["rgb"] = (colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]).view(np.float32)
    values["confidence"] = cloud.confidence.numpy()
    library = sensor_msgs_py()
    pack = pack_by_numpy if library is None else library.create_cloud
    message: PointCloud2 = pack(header(frame_id, stamp_ns), point_fields(_POINT), values)
    message.is_dense = bool(np.isfinite(points).all())
    return message


def points_and_colors(message: PointCloud2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Points (N, 3) float32 and colours (N, 3) uint8 of a cloud with float32 x y z and packed rgb;
    grey without.

    Raises InputError when the cloud has no such fields, or less data than it says.
    """
    names = _readable(message)
    library = sensor_msgs_py()
    is_plain = message.row_step == message.width * message.point_step and not message.is_bigendian
    # sensor_msgs_py takes padding of rows for points, and swaps the bytes of big-endian clouds
    # inside the message.
    read = library.read_points if library is not None and is_plain else read_by_numpy
    values = read(message, names)
    points = np.stack([values[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if "rgb" not in names:
        return points, np.broadcast_to(np.array(_GREY, np.uint8), points.shape)
    packed = np.ascontiguousarray(values["rgb"]).view(np.uint32)
    return points, np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(
        np.uint8
    )


@functools.lru_cache(maxsize=1)
def sensor_msgs_py() -> Any:
    """The module point_cloud2 of sensor_msgs_py; None where it is not installed, or does not work
    (which is logged).
    """
    try:
        from sensor_msgs_py import point_cloud2

        values = np.arange(10, dtype=np.float32).view(_POINT)
        packed = point_cloud2.create_cloud(Header(), point_fields(_POINT), values)
        if packed.data != pack_by_numpy(Header(), point_fields(_POINT), values).data:
            raise ValueError("other bytes than expected")
        packed.fields = packed.fields[:3]  # the rest of a point is padding now
        if not np.array_equal(point_cloud2.read_points(packed, ["z"])["z"], values["z"]):
            raise ValueError("other points than expected")
    except ModuleNotFoundError:
        return None
    except Exception as error:  # whatever it is, numpy does the same
        get_logger("vggt3_ros").warning(
            f"point clouds are packed without sensor_msgs_py, which does not work: {error!r}"
        )
        return None
    return point_cloud2


def point_fields(dtype: np.dtype[Any]) -> list[PointField]:
    """The fields of a structured type of float32."""
    return [
        PointField(name=name, offset=_BYTES * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(dtype.names or ())
    ]


def pack_by_numpy(
    header: Header, fields: Sequence[PointField], points: NDArray[Any]
) -> PointCloud2:
    """What `sensor_msgs_py.point_cloud2.create_cloud` makes of little-endian points, a structured
    array (N,).
    """
    message = PointCloud2(
        header=header, height=1, width=len(points), fields=list(fields), is_bigendian=False
    )
    message.point_step = points.dtype.itemsize
    message.row_step = points.dtype.itemsize * len(points)
    message.data = byte_array(points)
    return message


def read_by_numpy(message: PointCloud2, names: Sequence[str]) -> NDArray[Any]:
    """What `sensor_msgs_py.point_cloud2.read_points` reads: a structured array (N,), here of fields
    of 32 bits.
    """
    fields = {field.name: field for field in message.fields}
    order = ">" if message.is_bigendian else "<"
    layout: Any = {
        "names": list(names),
        "formats": [order + _KINDS[fields[name].datatype] for name in names],
        "offsets": [fields[name].offset for name in names],
        "itemsize": message.point_step,
    }
    size = message.height * message.row_step
    rows = np.frombuffer(message.data, dtype=np.uint8, count=size).reshape(
        message.height, message.row_step
    )
    points = (
        np.ascontiguousarray(rows[:, : message.width * message.point_step])
        .reshape(-1)
        .view(np.dtype(layout))
    )
    return points.astype(points.dtype.newbyteorder("="), copy=False)


def _readable(message: PointCloud2) -> list[str]:
    """Which of x, y, z and rgb to read. Raises InputError when they are not there, or lie outside
    of the data.
    """
    fields = {field.name: field for field in message.fields}
    names = ["x", "y", "z", *(["rgb"] if "rgb" in fields else [])]
    for name in names:
        kinds = (PointField.FLOAT32, PointField.UINT32) if name == "rgb" else (PointField.FLOAT32,)
        if name not in fields or fields[name].datatype not in kinds or fields[name].count != 1:
            given = ", ".join(
                f"{each.name} (datatype {each.datatype}, count {each.count})"
                for each in message.fields
            )
            raise InputError(
                f"the cloud has the fields {given or 'none'}; expected x y z, each one float32,"
                " and rgb"
            )
        if fields[name].offset + _BYTES > message.point_step:
            raise InputError(
                f"the cloud's field {name} lies outside of its points of {message.point_step} bytes"
            )
    size = len(message.data)
    row = message.width * message.point_step
    if message.row_step < row or size < message.height * message.row_step:
        raise InputError(
            f"the cloud has {size} bytes in rows of {message.row_step}; expected {message.height}"
            f" rows of at least {row}"
        )
    return names
