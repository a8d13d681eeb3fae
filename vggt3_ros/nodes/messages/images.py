"""Messages to and from arrays of pixels: the only place where one becomes the other.

What cv_bridge gives is taken from it where it works (see bridge.py), and by numpy and OpenCV
elsewhere; the arrays are the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.messages.bridge import find_bridge
from vggt3_ros.nodes.messages.conversions import header
from vggt3_ros.nodes.messages.raw_pixels import LAYOUTS, check_size, pixels_by_numpy
from vggt3_ros.pipeline.bit_depth import BitDepth
from vggt3_ros.pipeline.jpeg import is_jpeg, jpeg_length

Image = NDArray[np.uint8]
_UYVY = ("yuv422", "uyvy")
_YUYV = ("yuv422_yuy2", "yuyv")
_PAIRED = (*_UYVY, *_YUYV)


def image_from_message(message: ImageMessage, bit_depth: BitDepth | None = None) -> Image:
    """The pixels of a sensor_msgs/Image as (H, W, 3) uint8 RGB, in memory of their own.

    bit_depth says, and remembers over a sequence, what white is in 16 bits; without it this image
    alone does. Transparency is dropped, Bayer patterns are demosaiced. Raises InputError that names
    the encoding when it is not supported or the data does not fit it, and when pixels do not fit
    the bit depth.
    """
    to_rgb = _TO_RGB.get(message.encoding)
    if to_rgb is None:
        raise InputError(
            f"image encoding {message.encoding!r} is not supported; expected one of"
            f" {', '.join(_TO_RGB)}: change the driver's pixel format, or convert the images before"
        )
    pixels = _eight_bits(_pixels(message), bit_depth)
    if message.encoding in _PAIRED and message.width % 2:  # OpenCV 4.6 makes something of it
        raise _not_converted(message, "two pixels share their colour")
    try:
        return to_rgb(pixels)
    except cv2.error as error:
        raise _not_converted(message, _words(error)) from error


def image_from_compressed(message: CompressedImage, bit_depth: BitDepth | None = None) -> Image:
    """The pixels of a JPEG or PNG message as (H, W, 3) uint8 RGB, as stored: an EXIF orientation is
    not applied.

    bit_depth as for `image_from_message`. Bytes behind a whole JPEG do not matter. Raises
    InputError for anything else, for files that are cut off (one that another file follows, too:
    its stamp is not that of the pixels) and for pixels that do not fit the bit depth.
    """
    is_cut = is_jpeg(message.data) and jpeg_length(message.data) is None
    pixels = None if is_cut else _decompressed(message)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"compressed image of {len(message.data)} bytes, format {message.format!r}, cannot be"
            " decoded; expected a whole JPEG or PNG"
            f" file{', but this JPEG is cut off' if is_cut else ''}: for other transports"
            " (compressedDepth, theora, ffmpeg) subscribe to the raw image"
        )
    return _TO_RGB["mono8" if pixels.ndim == 2 else "bgr8"](
        _eight_bits(np.atleast_3d(pixels), bit_depth)
    )


def depth_from_message(message: ImageMessage) -> NDArray[np.float32]:
    """Depth (H, W) float32 in metres along z, 0 where unknown, of 16UC1 (millimetres) or 32FC1
    (metres) (REP-118).

    Raises InputError that names the encoding when it is another one or the data does not fit it.
    """
    if message.encoding not in ("16UC1", "mono16", "32FC1"):
        raise InputError(
            f"depth encoding {message.encoding!r} is not supported; expected 16UC1 (millimetres) or"
            " 32FC1 (metres): subscribe to the raw depth image that is registered to the colour"
            " image"
        )
    metres = _pixels(message)[..., 0].astype(np.float32)
    if message.encoding != "32FC1":
        metres *= np.float32(0.001)
    metres[~(np.isfinite(metres) & (metres > 0))] = 0.0
    return metres


def image_message(image: Image, frame_id: str, stamp_ns: int) -> ImageMessage:
    """A sensor_msgs/Image, rgb8, of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    message = ImageMessage(
        header=header(frame_id, stamp_ns), height=height, width=width, encoding="rgb8"
    )
    message.step = 3 * width
    message.data = byte_array(image)
    return message


def byte_array(values: NDArray[Any]) -> array[int]:
    """The bytes of an array, in the only type that messages take as it is; all others are copied
    byte by byte.
    """
    data = array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


def _pixels(message: ImageMessage) -> NDArray[Any]:
    """The pixels (H, W, channels) of a message as they are, without padding of rows, in native byte
    order; a copy.
    """
    layout = LAYOUTS[message.encoding]
    check_size(message, layout)
    bridge = find_bridge()
    return (
        bridge.pixels(message, layout)
        if bridge.takes(message, layout)
        else pixels_by_numpy(message, layout)
    )


def _decompressed(message: CompressedImage) -> NDArray[Any] | None:
    """Pixels (H, W[, 3 or 4]) as stored, colours as BGR; None when there is no image in the
    message.
    """
    try:
        return cv2.imdecode(np.frombuffer(message.data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _eight_bits(pixels: NDArray[Any], bit_depth: BitDepth | None) -> Image:
    """Pixels (H, W, channels) with at most three channels of 8 bits; transparency is not asked what
    white is.
    """
    colours = np.ascontiguousarray(pixels[..., :3])
    return colours if colours.dtype == np.uint8 else (bit_depth or BitDepth()).eight_bits(colours)


def _not_converted(message: ImageMessage, why: str) -> InputError:
    return InputError(
        f"{message.encoding} image of {message.width}x{message.height} pixels cannot be converted:"
        f" {why}; expected an even width and height; change the driver's image size or pixel format"
    )


def _words(error: cv2.error) -> str:
    return str(getattr(error, "err", "") or error).strip().splitlines()[0]


def _by_opencv(code: int) -> Callable[[Image], Image]:
    return lambda pixels: np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def _as_it_is(pixels: Image) -> Image:
    return pixels


def _reversed(pixels: Image) -> Image:
    return np.ascontiguousarray(pixels[..., ::-1])


def _grey(pixels: Image) -> Image:
    return np.repeat(pixels, 3, axis=2)


# OpenCV names a pattern by its second row and column: what ROS calls RGGB is BG there.
_BAYER = {
    "rggb": _by_opencv(cv2.COLOR_BayerBG2RGB),
    "bggr": _by_opencv(cv2.COLOR_BayerRG2RGB),
    "gbrg": _by_opencv(cv2.COLOR_BayerGR2RGB),
    "grbg": _by_opencv(cv2.COLOR_BayerGB2RGB),
}
# How pixels (H, W, channels), of 8 bits by then and without transparency, become RGB (H, W, 3).
_TO_RGB: dict[str, Callable[[Image], Image]] = {
    **dict.fromkeys(("rgb8", "rgba8", "rgb16", "rgba16"), _as_it_is),
    **dict.fromkeys(
        ("bgr8", "bgra8", "8UC3", "8UC4", "bgr16", "bgra16", "16UC3", "16UC4"), _reversed
    ),
    **dict.fromkeys(("mono8", "8UC1", "mono16", "16UC1"), _grey),
    **dict.fromkeys(_UYVY, _by_opencv(cv2.COLOR_YUV2RGB_UYVY)),
    **dict.fromkeys(_YUYV, _by_opencv(cv2.COLOR_YUV2RGB_YUYV)),
    **{f"bayer_{pattern}8": to_rgb for pattern, to_rgb in _BAYER.items()},
    **{f"bayer_{pattern}16": to_rgb for pattern, to_rgb in _BAYER.items()},
}
