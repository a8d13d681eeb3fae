"""How the pixels of a sensor_msgs/Image lie in its bytes, and how numpy gets at them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image as ImageMessage

from vggt3_ros.errors import InputError

_BAYER = ("rggb", "bggr", "gbrg", "grbg")


class Layout(NamedTuple):
    """One channel, as numpy calls it without the byte order, and how many there are in a pixel."""

    kind: str
    channels: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel."""
        return self.channels * np.dtype(self.kind).itemsize


LAYOUTS = {
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), Layout("u1", 3)),
    **dict.fromkeys(("rgba8", "bgra8", "8UC4"), Layout("u1", 4)),
    **dict.fromkeys(("rgb16", "bgr16", "16UC3"), Layout("u2", 3)),
    **dict.fromkeys(("rgba16", "bgra16", "16UC4"), Layout("u2", 4)),
    **dict.fromkeys(
        ("mono8", "8UC1", *(f"bayer_{pattern}8" for pattern in _BAYER)), Layout("u1", 1)
    ),
    **dict.fromkeys(
        ("mono16", "16UC1", *(f"bayer_{pattern}16" for pattern in _BAYER)), Layout("u2", 1)
    ),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), Layout("u1", 2)),
    "32FC1": Layout("f4", 1),
}


def check_size(message: ImageMessage, layout: Layout) -> None:
    """Raise InputError unless the message has as many bytes as its size says, and some pixels."""
    height = message.height
    width = message.width
    step = message.step
    size = len(message.data)
    if height == 0 or width == 0:
        raise InputError(
            f"{message.encoding} image of {width}x{height} pixels is empty; check the camera driver"
        )
    row = width * layout.pixel_bytes
    if step < row or size != step * height:
        raise InputError(
            f"{message.encoding} image of {width}x{height} pixels has {size} bytes in rows (step)"
            f" of {step}; expected rows of at least {row} bytes and step x height bytes in all;"
            " check the camera driver"
        )


def pixels_by_numpy(message: ImageMessage, layout: Layout) -> NDArray[Any]:
    """The pixels (H, W, channels) of a message that passed `check_size`, in native byte order; a
    copy.
    """
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}{layout.kind}")
    row = message.width * layout.pixel_bytes
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
    rows = rows[:, :row]
    pixels = (
        np.array(rows, order="C")
        .view(dtype)
        .reshape(message.height, message.width, layout.channels)
    )
    return pixels.astype(dtype.newbyteorder("="), copy=False)
