from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.bit_depth import BitDepth, least_depth

SIX = np.arange(6, dtype=np.uint16).reshape(2, 3)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_white_is_the_highest_value_of_the_depth_that_is_seen(bits: int) -> None:
    white = (1 << bits) - 1
    pixels = np.array([[0, 1, white // 2, white - 1, white]], np.uint16)
    assert BitDepth().eight_bits(pixels).dtype == np.uint8
    np.testing.assert_array_equal(BitDepth().eight_bits(pixels), np.round(pixels * (255 / white)))
    np.testing.assert_array_equal(BitDepth(bits).eight_bits(pixels), BitDepth().eight_bits(pixels))


@pytest.mark.parametrize(
    ("value", "bits"), [(0, 8), (255, 8), (256, 10), (700, 10), (1024, 12), (5000, 14), (20000, 16)]
)
def test_a_camera_whose_brightest_pixel_is_not_white_has_a_depth_that_cameras_have(
    value: int, bits: int
) -> None:
    assert least_depth(value) == bits


@pytest.mark.parametrize("used", [8, 10, 12, 14])
@pytest.mark.parametrize("container", [10, 12, 14, 16])
def test_white_is_white_when_the_low_bits_are_always_zero(used: int, container: int) -> None:
    # left-aligned in the container
    pixels = np.arange(1 << used, dtype=np.uint16) << max(container - used, 0)
    eight = BitDepth().eight_bits(pixels)
    np.testing.assert_array_equal(eight, np.round(np.arange(1 << used) * (255 / ((1 << used) - 1))))


def test_the_depth_of_a_sequence_never_falls() -> None:
    depth = BitDepth()
    assert depth.bits == 0
    depth.see(np.array([4095], np.uint16))
    dark = depth.eight_bits(np.array([100, 1023], np.uint16))
    np.testing.assert_array_equal(dark, [6, 64])
    assert (depth.bits, depth.white) == (12, 4095)
    # the same image, alone
    assert BitDepth().eight_bits(np.array([100, 1023], np.uint16))[1] == 255


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.uint16), np.full((2, 2), 1024, np.uint16), SIX[:0]]
)
def test_images_of_one_value_are_no_trouble(pixels: np.ndarray) -> None:
    eight = BitDepth().eight_bits(pixels)
    assert eight.shape == pixels.shape and (eight == (64 if pixels.any() else 0)).all()


def test_pixels_above_the_given_depth_are_refused_by_its_name() -> None:
    depth = BitDepth(12)
    assert depth.eight_bits(np.array([4095], np.uint16))[0] == 255
    with pytest.raises(
        InputError, match="pixels up to 4096, but bit_depth is 12.*give bit_depth 14, or 0"
    ):
        depth.eight_bits(np.array([0, 4096], np.uint16))


@pytest.mark.parametrize("bits", [-1, 1, 7, 17])
def test_a_depth_that_no_image_has_is_refused(bits: int) -> None:
    with pytest.raises(InputError, match=f"bit_depth is {bits}; expected 8 to 16, or 0"):
        BitDepth(bits)
