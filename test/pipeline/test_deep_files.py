"""Files of 10, 12 and 14 bits in 16 are as bright as those of 8."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.bit_depth import BitDepth
from vggt3_ros.pipeline.deep_files import bit_depth_of
from vggt3_ros.pipeline.frame import Frame, read_image

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
RGB[0, :2] = [[0, 0, 0], [255, 255, 255]]


def written(path: Path, rgb: np.ndarray, bits: int) -> Path:
    """RGB (or grey) pixels of 8 bits, with so many bits of 16."""
    deep = np.round(rgb * ((2**bits - 1) / 255)).astype(np.uint16)
    assert cv2.imwrite(str(path), deep[..., ::-1] if deep.ndim == 3 else deep)
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_colours_are_as_bright_as_those_of_8_bits(tmp_path: Path, bits: int, suffix: str) -> None:
    image = read_image(written(tmp_path / f"deep{suffix}", RGB, bits))
    assert np.abs(image.astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_grey_is_as_bright_as_that_of_8_bits(tmp_path: Path, bits: int, suffix: str) -> None:
    image = Frame.from_file(written(tmp_path / f"deep{suffix}", RGB[..., 0], bits)).image
    assert np.abs(image.astype(int) - RGB[..., :1]).max() <= 1


def test_transparency_has_16_bits_whatever_the_colours_have(tmp_path: Path) -> None:
    opacity = np.where(np.arange(32) < 16, 65535, 0)[None, :, None].repeat(24, axis=0)
    deep = np.concatenate(
        [RGB[..., ::-1].astype(np.uint16) * 16, opacity.astype(np.uint16)], axis=2
    )
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    image = read_image(tmp_path / "deep.png")
    assert (
        np.abs(image[:, :16].astype(int) - RGB[:, :16]).max() <= 1 and (image[:, 16:] == 255).all()
    )


def test_a_deep_image_is_turned_like_any_other(tmp_path: Path) -> None:
    path = written(tmp_path / "deep.png", RGB, 12)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    data = path.read_bytes()
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:33] + chunk + data[33:])  # behind the header
    upright = np.rot90(RGB, -1)
    assert np.abs(read_image(path).astype(int) - upright).max() <= 1
    assert np.abs(read_image(path, upright=False).astype(int) - RGB).max() <= 1


def test_brightness_is_that_of_the_sequence(tmp_path: Path) -> None:
    bright, dark = (
        written(tmp_path / "0.png", RGB, 12),
        written(tmp_path / "1.png", RGB[..., 0] // 16, 12),
    )
    depth = BitDepth()
    read_image(bright, bit_depth=depth)
    assert read_image(dark, bit_depth=depth).max() == 15
    assert read_image(dark, bit_depth=BitDepth(12)).max() == 15
    assert read_image(dark).max() > 200  # alone it tells of 8 bits


def test_the_depth_of_many_files_is_told_by_some_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [written(tmp_path / f"{i}.png", RGB if i == 39 else RGB // 16, 12) for i in range(40)]
    files[10].write_bytes(files[10].read_bytes()[:100])
    opened: list[str] = []
    original = Pillow.open
    monkeypatch.setattr(Pillow, "open", lambda path: opened.append(path.name) or original(path))
    assert bit_depth_of(files).bits == 12
    assert len(opened) == 16 and {"0.png", "39.png"} <= set(opened)
    assert bit_depth_of(files, 14).bits == 14 and bit_depth_of([]).bits == 0
    Pillow.fromarray(RGB).save(tmp_path / "usual.png")
    assert bit_depth_of([tmp_path / "usual.png"]).bits == 0 and len(opened) == 17


def test_pixels_above_the_given_depth_are_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="pixels up to 16383, but bit_depth is 12, which ends at 4095"
    ):
        read_image(written(tmp_path / "deep.png", RGB, 14), bit_depth=BitDepth(12))


def test_deep_colours_that_opencv_cannot_give_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "deep.tif", RGB, 12)
    turned = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1]
    monkeypatch.setattr(cv2, "imread", lambda path, flags: turned)
    with pytest.raises(
        InputError, match="deep.tif .* not all of its 16 bits per channel can be read; convert it"
    ):
        read_image(path)


def test_white_of_a_pgm_is_what_its_header_says(tmp_path: Path) -> None:
    grey = (np.arange(1024) * 2).astype(">u2")  # to 2046, where white is 4095
    (tmp_path / "a.pgm").write_bytes(b"P5\n32 32\n4095\n" + grey.tobytes())
    for depth in (BitDepth(12), BitDepth(16), BitDepth(14)):
        assert abs(int(read_image(tmp_path / "a.pgm", bit_depth=depth).max()) - 127) <= 1
