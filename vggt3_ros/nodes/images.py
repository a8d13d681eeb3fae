"""Images to and from arrays, by numpy and OpenCV alone: cv_bridge breaks with NumPy 2 and has no wheel."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.conversions import header

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Encoding:
    """How pixels lie in a message, and how (H, W, channels) of them become (H, W, 3) uint8 RGB."""

    kind: str  # of one channel, as numpy calls it, without the byte order
    channels: int
    to_rgb: Callable[[NDArray[Any]], Image]


def image_from_message(message: ImageMessage) -> Image:
    """The pixels of a sensor_msgs/Image as (H, W, 3) uint8 RGB, in memory of their own.

    16-bit grey is scaled to 8 bits over its full range, transparency is dropped, Bayer patterns are demosaiced.
    Raises InputError that names the encoding when it is not supported or the data does not fit it.
    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(
            f"image encoding {message.encoding!r} is not supported; expected one of {', '.join(_ENCODINGS)}: "
            f"change the driver's pixel format, or convert the images before"
        )
    pixels = _pixels(message, encoding.kind, encoding.channels)
    try:
        return encoding.to_rgb(pixels)
    except cv2.error as error:
        size = f"{message.width}x{message.height}"
        raise InputError(
            f"{message.encoding} image of {size} pixels cannot be converted: {_words(error)}; expected an even width "
            f"and height; change the driver's image size or pixel format"
        ) from error


def image_from_compressed(message: CompressedImage) -> Image:
    """The pixels of a JPEG or PNG message as (H, W, 3) uint8 RGB, as stored: an EXIF orientation is not applied.

    Raises InputError for anything else and for files that are cut off.
    """
    data = np.frombuffer(message.data, dtype=np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if _is_whole(data) else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(
            f"compressed image of {len(data)} bytes, format {message.format!r}, cannot be decoded; expected a whole "
            f"JPEG or PNG file: for other transports (compressedDepth, theora, ffmpeg) subscribe to the raw image"
        )
    return _by_opencv(cv2.COLOR_BGR2RGB)(image)


def depth_from_message(message: ImageMessage) -> NDArray[np.float32]:
    """Depth (H, W) float32 in metres along z, 0 where unknown, of 16UC1 (millimetres) or 32FC1 (metres) (REP-118).

    Raises InputError that names the encoding when it is another one or the data does not fit it.
    """
    if message.encoding in ("16UC1", "mono16"):
        metres = _pixels(message, "u2", 1)[..., 0].astype(np.float32) * np.float32(0.001)
    elif message.encoding == "32FC1":
        metres = _pixels(message, "f4", 1)[..., 0].astype(np.float32)
    else:
        raise InputError(
            f"depth encoding {message.encoding!r} is not supported; expected 16UC1 (millimetres) or 32FC1 (metres): "
            f"subscribe to the raw depth image that is registered to the colour image"
        )
    metres[~(np.isfinite(metres) & (metres > 0))] = 0.0
    return metres


def image_message(image: Image, frame_id: str, stamp_ns: int) -> ImageMessage:
    """A sensor_msgs/Image, rgb8, of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    message = ImageMessage(header=header(frame_id, stamp_ns), height=height, width=width, encoding="rgb8")
    message.step = 3 * width
    message.data = byte_array(image)
    return message


def byte_array(values: NDArray[Any]) -> array[int]:
    """The bytes of an array, in the only type that messages take as it is; all others are copied byte by byte."""
    data = array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


def _pixels(message: ImageMessage, kind: str, channels: int) -> NDArray[Any]:
    """The pixels (H, W, channels) without padding of rows; a copy."""
    height, width, step, size = message.height, message.width, message.step, len(message.data)
    if height == 0 or width == 0:
        raise InputError(f"{message.encoding} image of {width}x{height} pixels is empty; check the camera driver")
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}{kind}")
    row = width * channels * dtype.itemsize
    if step < row or size != step * height:
        raise InputError(
            f"{message.encoding} image of {width}x{height} pixels has {size} bytes in rows (step) of {step}; expected "
            f"rows of at least {row} bytes and step x height bytes in all; check the camera driver"
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)[:, :row]
    return np.array(rows, order="C").view(dtype).reshape(height, width, channels)


def _is_whole(data: Image) -> bool:
    """Whether a JPEG has its end mark; OpenCV 4 paints the rest of one that is cut off grey. Others: not judged here.

    Within a scan the bytes FF D9 and FF DA do not occur, so the last scan's start comes before the end mark.
    """
    content = data.tobytes()
    return not content.startswith(b"\xff\xd8") or content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")


def _words(error: cv2.error) -> str:
    return str(getattr(error, "err", "") or error).strip().splitlines()[0]


def _by_opencv(code: int) -> Callable[[NDArray[Any]], Image]:
    return lambda pixels: np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def _as_it_is(pixels: NDArray[Any]) -> Image:
    return pixels


def _reversed(pixels: NDArray[Any]) -> Image:
    return np.ascontiguousarray(pixels[..., ::-1])


def _grey(pixels: NDArray[Any]) -> Image:
    return np.repeat(pixels, 3, axis=2)


def _deep_grey(pixels: NDArray[Any]) -> Image:
    """16 bits to 8: 65535 becomes 255, rounded."""
    return _grey(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))


_ENCODINGS = {
    "rgb8": _Encoding("u1", 3, _as_it_is),
    "bgr8": _Encoding("u1", 3, _reversed),
    "8UC3": _Encoding("u1", 3, _reversed),
    "rgba8": _Encoding("u1", 4, lambda pixels: np.ascontiguousarray(pixels[..., :3])),
    "bgra8": _Encoding("u1", 4, lambda pixels: np.ascontiguousarray(pixels[..., 2::-1])),
    "mono8": _Encoding("u1", 1, _grey),
    "8UC1": _Encoding("u1", 1, _grey),
    "mono16": _Encoding("u2", 1, _deep_grey),
    "16UC1": _Encoding("u2", 1, _deep_grey),
    "yuv422": _Encoding("u1", 2, _by_opencv(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": _Encoding("u1", 2, _by_opencv(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": _Encoding("u1", 2, _by_opencv(cv2.COLOR_YUV2RGB_YUYV)),
    "yuyv": _Encoding("u1", 2, _by_opencv(cv2.COLOR_YUV2RGB_YUYV)),
    # OpenCV names a pattern by its second row and column: what ROS calls RGGB is BG there.
    "bayer_rggb8": _Encoding("u1", 1, _by_opencv(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": _Encoding("u1", 1, _by_opencv(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": _Encoding("u1", 1, _by_opencv(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": _Encoding("u1", 1, _by_opencv(cv2.COLOR_BayerGB2RGB)),
}
