"""Image files as they come: damaged metadata, huge ones, several images in one, formats that are
not read.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Image, read_image
from vggt3_ros.pipeline.image_file import opened_image, rotated

ASCII, SHORT, RATIONAL, SIGNED = 2, 3, 5, 9
ORIENTATION, X_RESOLUTION, MAKER, SAMPLES, GPS, EXIF_PART = (
    0x0112,
    0x011A,
    0x010F,
    0x0115,
    0x8825,
    0x8769,
)


@pytest.fixture
def pixels() -> Image:
    """Black but for a white corner at the top left, so that every turn shows."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = 255
    return image


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of (tag, type, count, value of 4 bytes), followed by 16 zeros that offsets may
    point to.
    """
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return b"Exif\0\0" + head + body + bytes(4) + bytes(16)


TURN = (ORIENTATION, SHORT, 1, struct.pack("<HH", 6, 0))
ZEROS = 8 + 2 + 2 * 12 + 4  # where the zeros lie behind two entries
BROKEN: dict[str, dict[str, Any]] = {
    "rational of 0/0": {"exif": exif(TURN, (X_RESOLUTION, RATIONAL, 1, struct.pack("<I", ZEROS)))},
    "rational beyond the end": {
        "exif": exif(TURN, (X_RESOLUTION, RATIONAL, 1, struct.pack("<I", 9999)))
    },
    "text for a rational": {"exif": exif(TURN, (X_RESOLUTION, ASCII, 1, b"A\0\0\0"))},
    "rational for a text": {"exif": exif(TURN, (MAKER, RATIONAL, 1, struct.pack("<I", ZEROS)))},
    "negative count": {"exif": exif(TURN, (SAMPLES, SIGNED, 1, struct.pack("<i", -1)))},
    "orientation 0": {"exif": exif((ORIENTATION, SHORT, 1, bytes(4)))},
    "orientation 99": {"exif": exif((ORIENTATION, SHORT, 1, struct.pack("<HH", 99, 0)))},
    "orientation of many values": {"exif": exif((ORIENTATION, SHORT, 2, struct.pack("<HH", 6, 6)))},
    "orientation as a rational": {
        "exif": exif((ORIENTATION, RATIONAL, 1, struct.pack("<I", ZEROS - 12)))
    },
    "orientation as text": {"exif": exif((ORIENTATION, ASCII, 2, b"6\0\0\0"))},
    "gps that is none": {"exif": exif(TURN, (GPS, 4, 1, struct.pack("<I", 2**31)))},
    "exif part in a circle": {"exif": exif(TURN, (EXIF_PART, 4, 1, struct.pack("<I", 8)))},
    "cut off": {"exif": exif(TURN, (MAKER, ASCII, 10**6, bytes(4)))[:20]},
    "no TIFF header": {"exif": b"Exif\0\0nonsense"},
    "empty": {"exif": b"Exif\0\0"},
    "bad ICC profile": {"icc_profile": b"\xff" * 50},
    "bad XMP": {"xmp": b"<x:xmpmeta><tiff:Orientation>six</"},
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", BROKEN)
def test_damaged_metadata_costs_no_photograph(
    kind: str, format: str, pixels: Image, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(pixels).save(path, format, **BROKEN[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(path)
    assert image.shape in ((48, 64, 3), (64, 48, 3)) and image.max() > 200 > 50 > image.mean()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, struct.error, KeyError, AttributeError, OverflowError, TypeError]
)
def test_whatever_pillow_raises_the_file_is_named(
    error: type[Exception], pixels: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise error("somewhere inside")

    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(
        InputError, match=r"a\.png cannot be read as an image: .*somewhere inside.*; leave it out"
    ):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_set_upright_unless_asked_for_as_stored(
    orientation: int, format: str, pixels: Image, tmp_path: Path
) -> None:
    upright = np.zeros((64, 48, 3) if orientation > 4 else (48, 64, 3), np.uint8)
    corner = {
        1: (0, 0),
        2: (0, -1),
        3: (-1, -1),
        4: (-1, 0),
        5: (0, 0),
        6: (0, -1),
        7: (-1, -1),
        8: (-1, 0),
    }
    tag = Pillow.Exif()
    tag[ORIENTATION] = orientation
    Pillow.fromarray(pixels).save(tmp_path / "a", format, exif=tag)
    image = read_image(tmp_path / "a")
    assert (
        image.shape == upright.shape
        and image[corner[orientation]].min() > 200
        and image.mean() < 50
    )
    assert np.array_equal(rotated(pixels, orientation) > 127, image > 127) or format in (
        "JPEG",
        "WEBP",
    )
    stored = read_image(tmp_path / "a", upright=False)
    assert stored.shape == pixels.shape and stored[0, 0].min() > 200 and stored.mean() < 50


def test_large_photographs_are_read_without_a_warning_and_absurd_ones_are_refused(
    pixels: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pillow.fromarray(pixels).save(tmp_path / "large.png")
    # a third of the image; Pillow itself refuses twice as many
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(tmp_path / "large.png"), pixels)
        (tmp_path / "200.ppm").write_bytes(b"P6 20000 10000 255\n")
        with opened_image(tmp_path / "200.ppm") as file:
            assert file.size == (20000, 10000)
    assert Pillow.MAX_IMAGE_PIXELS == 1000, "it is set back"
    (tmp_path / "absurd.ppm").write_bytes(b"P6 40000 40000 255\n")
    with pytest.raises(
        InputError,
        match=r"absurd\.ppm .*40000x40000 pixels are more than 1 billion; make it smaller",
    ):
        read_image(tmp_path / "absurd.ppm")


def test_a_jpeg_with_garbage_behind_it_is_whole_and_a_cut_one_with_another_behind_it_is_not(
    pixels: Image, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG")
    whole, path = file.getvalue(), tmp_path / "a.jpg"
    expected = np.asarray(Pillow.open(file).convert("RGB"))
    for behind in (b"garbage", bytes(100), b"\xff\xd8\xff", whole):
        path.write_bytes(whole + behind)
        assert np.array_equal(read_image(path), expected)
    # in tables, as Pillow does not notice, and in pixels
    for length in (60, 300, 630, len(whole) - 1):
        path.write_bytes(whole[:length] + whole)
        with pytest.raises(InputError, match=r"a\.jpg cannot be read as an image"):
            read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "HEIC file.*convert it to JPEG or PNG"),
        ("a.jpg", b"\0\0\0\x18ftypmif1", "HEIC file.*convert it to JPEG or PNG"),
        ("a.nef", b"II*\0", "raw sensor data is not read; convert it"),
        ("a.CR2", b"II*\0", "raw sensor data is not read; convert it"),
        ("a.gif", b"GIF89a", "256 colours"),
        ("a.jp2", b"nonsense", "cannot identify"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.png", b"", "the file is empty"),
    ],
)
def test_formats_that_are_not_read_say_what_to_do(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} cannot be read as an image: .*{reason}"):
        read_image(tmp_path / name)


def test_of_several_images_in_a_file_the_one_that_is_meant_is_taken(
    pixels: Image, tmp_path: Path
) -> None:
    large, small = Pillow.fromarray(pixels), Pillow.fromarray(255 - pixels[::4, ::4])
    small.save(tmp_path / "preview.tif", save_all=True, append_images=[large])
    assert np.array_equal(read_image(tmp_path / "preview.tif"), pixels)
    large.save(
        tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[Pillow.fromarray(255 - pixels)]
    )
    assert read_image(tmp_path / "phone.jpg").mean() < 50
    for name, options in (("stack.tif", {}), ("film.webp", {"lossless": True}), ("film.png", {})):
        large.save(
            tmp_path / name,
            save_all=True,
            append_images=[Pillow.fromarray(255 - pixels)],
            **options,
        )
        with pytest.raises(
            InputError, match=f"{name} .*it holds 2 images, and which one is meant is unknown"
        ):
            read_image(tmp_path / name)


def test_floats_keep_their_brightness_whatever_their_range_and_holes(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    for white in (1, 255, 65535):
        values = white * ramp
        values[0, 5], values[0, 6], values[0, 7] = np.nan, np.inf, -np.inf
        Pillow.fromarray(values).save(tmp_path / "a.tif")
        image = read_image(tmp_path / "a.tif")
        assert np.abs(image[1:, :, 0] - 255 * ramp[1:]).max() <= 0.51 and not image[0, 5:8].any()


def test_palettes_with_transparency_and_printers_colours_are_taken(
    pixels: Image, tmp_path: Path
) -> None:
    palette = Pillow.fromarray(pixels).convert("P")
    palette.save(tmp_path / "a.png", transparency=palette.getpixel((63, 47)))
    assert read_image(tmp_path / "a.png").min() == 255, "black is transparent, over white"
    Pillow.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert image[4, 4].min() > 200 and image[40, 40].max() < 50
