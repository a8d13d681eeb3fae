"""Images of every supported encoding against hand-made truth, and what is refused."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.messages.images import (
    depth_from_message,
    image_from_compressed,
    image_from_message,
    image_message,
)
from vggt3_ros.pipeline.bit_depth import BitDepth

from .image_messages import compressed, message_of

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
GREY = RGB[..., :1]
ALPHA = np.full((4, 6, 1), 7, np.uint8)
BAYER = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


def yuv422(rgb: tuple[int, int, int], luma_first: bool) -> np.ndarray:
    """4 x 6 pixels of one colour in ITU-R BT.601 with limited range, the way cameras send it."""
    r, g, b = (value / 255 for value in rgb)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    y, u, v = 16 + 219 * luma, 128 + 112 * (b - luma) / 0.886, 128 + 112 * (r - luma) / 0.701
    pair = [[y, u], [y, v]] if luma_first else [[u, y], [v, y]]
    return np.tile(np.round(pair).astype(np.uint8), (4, 3, 1))


def mosaic(pattern: str, rgb: tuple[int, int, int]) -> np.ndarray:
    """8 x 10 pixels of one colour behind the filters of a Bayer pattern, named row by row."""
    cell = np.array([rgb["RGB".index(letter)] for letter in pattern], np.uint8).reshape(2, 2)
    return np.tile(cell, (4, 5))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "values", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("8UC3", RGB[..., ::-1], RGB),
        ("rgba8", np.concatenate([RGB, ALPHA], 2), RGB),
        ("bgra8", np.concatenate([RGB[..., ::-1], ALPHA], 2), RGB),
        ("mono8", GREY, np.repeat(GREY, 3, 2)),
        ("8UC1", GREY, np.repeat(GREY, 3, 2)),
    ],
)
def test_image_has_the_colours_of_the_message(
    encoding: str, values: np.ndarray, expected: np.ndarray, padding: int
) -> None:
    image = image_from_message(message_of(values, encoding, padding))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("bigendian", [False, True])
def test_sixteen_bits_are_scaled_to_eight_in_either_byte_order(
    encoding: str, bigendian: bool
) -> None:
    deep = np.array([[0, 128, 129, 257, 65535, 0x1234]], dtype=">u2" if bigendian else "<u2")
    image = image_from_message(message_of(deep, encoding, padding=3, bigendian=bigendian))
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 1, 1, 255, 18])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "16UC3", "rgba16", "bgra16", "16UC4"])
def test_colours_of_sixteen_bits_are_scaled_to_eight_whatever_their_transparency_is(
    encoding: str,
) -> None:
    values = RGB if encoding.startswith("rgb") else RGB[..., ::-1]
    opaque = [np.full((4, 6, 1), 65535, np.uint16)] if encoding.endswith(("a16", "4")) else []
    deep = np.concatenate([values.astype(np.uint16) * 16, *opaque], 2)
    np.testing.assert_array_equal(image_from_message(message_of(deep, encoding, padding=1)), RGB)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize(
    "encoding", ["mono16", "16UC1", *(f"bayer_{pattern}16" for pattern in BAYER)]
)
def test_few_bits_in_sixteen_are_as_bright_as_in_eight(encoding: str, bits: int) -> None:
    if encoding.startswith("bayer"):
        values, shown = (
            mosaic(BAYER[encoding[6:10]], (200, 100, 250)),
            np.broadcast_to((200, 100, 250), (8, 10, 3)),
        )
    else:
        values, shown = GREY[..., 0], np.repeat(GREY, 3, 2)
    deep = np.round(values * ((2**bits - 1) / 255)).astype(np.uint16)
    assert np.abs(image_from_message(message_of(deep, encoding)).astype(int) - shown).max() <= 1
    assert (
        np.abs(
            image_from_message(message_of(deep, encoding), BitDepth(bits)).astype(int) - shown
        ).max()
        <= 1
    )


def test_brightness_does_not_jump_back_in_a_sequence() -> None:
    depth = BitDepth()
    bright, dark = np.array([[0, 4095]], np.uint16), np.array([[0, 1000]], np.uint16)
    shown = [
        image_from_message(message_of(each, "mono16"), depth)[0, 1, 0]
        for each in (bright, dark, bright, dark)
    ]
    assert shown == [255, 62, 255, 62]
    _, png = cv2.imencode(".png", dark)
    assert (
        image_from_compressed(CompressedImage(format="png", data=png.tobytes()), depth)[0, 1, 0]
        == 62
    )


def test_pixels_above_the_given_bit_depth_are_refused_by_its_name() -> None:
    bright = np.array([[0, 4096]], np.uint16)
    with pytest.raises(InputError, match="pixels up to 4096, but bit_depth is 12"):
        image_from_message(message_of(bright, "mono16"), BitDepth(12))
    _, png = cv2.imencode(".png", bright)
    with pytest.raises(InputError, match="pixels up to 4096, but bit_depth is 12"):
        image_from_compressed(CompressedImage(format="png", data=png.tobytes()), BitDepth(12))


@pytest.mark.parametrize(
    ("encoding", "luma_first"),
    [("yuv422", False), ("uyvy", False), ("yuv422_yuy2", True), ("yuyv", True)],
)
@pytest.mark.parametrize("rgb", [(220, 30, 40), (30, 200, 60), (20, 40, 210)])
def test_yuv_has_its_colour(encoding: str, luma_first: bool, rgb: tuple[int, int, int]) -> None:
    image = image_from_message(message_of(yuv422(rgb, luma_first), encoding, padding=4))
    assert image.shape == (4, 6, 3)
    assert np.abs(image.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("pattern", BAYER)
def test_bayer_pattern_is_demosaiced(pattern: str) -> None:
    rgb = (200, 100, 50)
    image = image_from_message(
        message_of(mosaic(BAYER[pattern], rgb), f"bayer_{pattern}8", padding=2)
    )
    assert image.shape == (8, 10, 3)
    np.testing.assert_array_equal(image, np.broadcast_to(rgb, image.shape))


def test_image_does_not_change_with_the_message() -> None:
    message = message_of(RGB, "rgb8")
    image = image_from_message(message)
    message.data[0] ^= 255
    np.testing.assert_array_equal(image, RGB)


def test_image_message_survives_the_wire() -> None:
    message = image_message(RGB[:, ::-1], "camera", 1_700_000_000_000_000_001)
    received = deserialize_message(serialize_message(message), Image)
    np.testing.assert_array_equal(image_from_message(received), RGB[:, ::-1])
    assert received.header.frame_id == "camera"
    assert (received.header.stamp.sec, received.header.stamp.nanosec) == (1_700_000_000, 1)


def test_unknown_encoding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"'nv12' is not supported; expected one of rgb8, .*bayer_grbg8"
    ):
        image_from_message(message_of(GREY, "nv12"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 5}, "rgb8 image of 6x5 pixels has 72 bytes in rows .step. of 18; expected"),
        ({"width": 7}, "expected rows of at least 21 bytes"),
        ({"step": 0}, "rows .step. of 0"),
        ({"height": 0}, "6x0 pixels is empty"),
        ({"width": 0}, "0x4 pixels is empty"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "expected rows of at least"),
        ({"encoding": "bgra8"}, "bgra8 image of 6x4 pixels has 72 bytes"),
    ],
)
def test_data_that_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    message = message_of(RGB, "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=words):
        image_from_message(message)


def test_yuv_of_odd_width_is_refused() -> None:
    with pytest.raises(
        InputError, match="yuv422 image of 5x4 pixels cannot be converted.*even width"
    ):
        image_from_message(message_of(np.zeros((4, 5, 2), np.uint8), "yuv422"))


def smooth() -> np.ndarray:
    """64 x 96 pixels without edges, so that JPEG hardly changes them."""
    rows, columns = np.mgrid[0:64, 0:96]
    return np.stack([rows * 3, columns * 2, 200 - rows], axis=-1).astype(np.uint8)


def test_png_comes_back_exactly_and_jpeg_nearly() -> None:
    np.testing.assert_array_equal(image_from_compressed(compressed(RGB, "PNG")), RGB)
    near = image_from_compressed(compressed(smooth(), "JPEG", quality=95))
    assert np.abs(near.astype(int) - smooth()).max() <= 8


def test_grey_jpeg_and_deep_png_become_rgb() -> None:
    grey = image_from_compressed(compressed(smooth()[..., 0], "JPEG", quality=95))
    assert (
        grey.shape == (64, 96, 3) and np.abs(grey[..., 1].astype(int) - smooth()[..., 0]).max() <= 8
    )
    deep = image_from_compressed(compressed(smooth()[..., 0].astype(np.uint16) * 256, "PNG"))
    np.testing.assert_array_equal(deep, np.repeat(smooth()[..., :1], 3, 2))


def test_orientation_of_a_photograph_is_not_applied() -> None:
    exif = Pillow.Exif()
    # to be turned by a quarter for people; the calibration is for the pixels as stored
    exif[0x0112] = 6
    assert image_from_compressed(compressed(smooth(), "JPEG", exif=exif)).shape == (64, 96, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_compressed_image_that_is_cut_off_is_refused(kind: str, share: float) -> None:
    message = compressed(cv2.resize(RGB, (320, 240)), kind)
    message.data = message.data[: int(len(message.data) * share)]
    with pytest.raises(InputError, match="cannot be decoded; expected a whole JPEG or PNG file"):
        image_from_compressed(message)


def test_jpeg_that_opencv_would_paint_grey_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # as OpenCV 4 does
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.full((64, 96, 3), 128, np.uint8))
    whole = compressed(smooth(), "JPEG")
    assert image_from_compressed(whole).shape == (64, 96, 3)
    with pytest.raises(InputError, match="cannot be decoded"):
        image_from_compressed(CompressedImage(format="jpeg", data=whole.data[:-10]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_follows_a_whole_image_does_not_matter(kind: str) -> None:
    whole = compressed(smooth(), kind)
    expected = image_from_compressed(whole)
    for garbage in (b"\xff\xda", bytes(1000), b"\r\n--boundary", whole.data[:-10]):
        longer = CompressedImage(format="jpeg", data=bytes(whole.data) + bytes(garbage))
        np.testing.assert_array_equal(image_from_compressed(longer), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_an_image_that_is_cut_off_is_not_made_whole_by_the_next_one(
    kind: str, share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    data = bytes(compressed(noise, kind).data)
    with pytest.raises(InputError, match="cannot be decoded; expected a whole JPEG or PNG file"):
        image_from_compressed(
            CompressedImage(format=kind, data=data[: int(share * len(data))] + data)
        )


@pytest.mark.parametrize("data", [b"", b"hello", bytes(100), b"\xff\xd8\xff\xd9"])
def test_what_is_no_image_is_refused_with_its_format(data: bytes) -> None:
    message = CompressedImage(format="32FC1; compressedDepth", data=data)
    with pytest.raises(
        InputError, match=rf"{len(data)} bytes, format '32FC1; compressedDepth', cannot be decoded"
    ):
        image_from_compressed(message)


@pytest.mark.parametrize("bigendian", [False, True])
def test_depth_is_in_metres_and_zero_where_unknown(bigendian: bool) -> None:
    order = ">" if bigendian else "<"
    millimetres = np.array([[0, 1000, 2345]], dtype=f"{order}u2")
    depth = depth_from_message(message_of(millimetres, "16UC1", padding=1, bigendian=bigendian))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 1.0, 2.345]], rtol=1e-6)
    metres = np.array([[1.5, np.nan, np.inf, -np.inf, -1.0, 0.0]], dtype=f"{order}f4")
    depth = depth_from_message(message_of(metres, "32FC1", padding=7, bigendian=bigendian))
    assert depth.dtype.isnative
    np.testing.assert_array_equal(depth, [[1.5, 0, 0, 0, 0, 0]])


def test_depth_of_another_encoding_is_refused() -> None:
    with pytest.raises(InputError, match="'rgb8' is not supported; expected 16UC1"):
        depth_from_message(message_of(RGB, "rgb8"))
