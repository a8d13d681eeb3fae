from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.pipeline.frame import Frame, Image

MakeImage = Callable[..., Image]
CAMERA = intrinsics_matrix(60.0, 60.0, 31.0, 23.0)


def test_colour_files_are_read_pixel_by_pixel(tmp_path: Path, make_image: MakeImage) -> None:
    Pillow.fromarray(make_image(1)).save(tmp_path / "a.png")
    frame = Frame.from_file(tmp_path / "a.png", stamp_ns=5)
    assert np.array_equal(frame.image, make_image(1))
    assert (frame.name, frame.stamp_ns, frame.size_hw) == ("a.png", 5, (48, 64))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA"])
def test_files_of_other_modes_become_rgb(tmp_path: Path, make_image: MakeImage, mode: str) -> None:
    original = Pillow.fromarray(make_image(1)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    original.save(path)
    assert np.array_equal(Frame.from_file(path).image, np.asarray(original.convert("RGB")))


def test_16_bit_grey_files_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Pillow.fromarray(ramp).save(tmp_path / "a.png")
    image = Frame.from_file(tmp_path / "a.png").image
    assert image.shape == (48, 64, 3) and image[0, 0, 0] == 0 and image[-1, -1, 2] == 255
    assert np.abs(image[..., 0] - ramp / 257.0).max() <= 0.51


def test_transparent_pixels_are_seen_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    image = Frame.from_file(tmp_path / "a.png").image
    assert image[0, 0].tolist() == [10, 20, 30] and image[1, 1].tolist() == [255, 255, 255]


def test_a_turned_photograph_is_set_upright_unless_it_is_calibrated(
    tmp_path: Path, make_image: MakeImage
) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Pillow.fromarray(make_image(1)).save(tmp_path / "a.png", exif=exif)
    assert Frame.from_file(tmp_path / "a.png").size_hw == (64, 48)
    assert Frame.from_file(tmp_path / "a.png", intrinsics=CAMERA).size_hw == (48, 64)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name(
    tmp_path: Path, make_image: MakeImage, kind: str, share: float
) -> None:
    path = tmp_path / f"broken.{kind}"
    Pillow.fromarray(make_image(1)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        InputError, match=rf"broken\.{kind} cannot be read as an image: .*; leave it out or copy"
    ):
        Frame.from_file(path)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(InputError, match=r"notes\.png cannot be read as an image"):
        Frame.from_file(tmp_path / "notes.png")
    with pytest.raises(InputError, match=f"{tmp_path} cannot be read as an image: .*[Dd]irectory"):
        Frame.from_file(tmp_path)
    with pytest.raises(InputError, match=r"there is no image file .*missing\.png; check the path"):
        Frame.from_file(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"must be (H, W, 3) uint8 RGB; got (4, 4) uint8"),
        (
            {"image": np.zeros((4, 4, 3), np.float32)},
            r"must be (H, W, 3) uint8 RGB; got (4, 4, 3) float32",
        ),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, r"got (0, 4, 3)"),
        ({"image": None}, r"got () NoneType"),
        ({"intrinsics": torch.eye(4)}, "intrinsics must be 3x3; got (4, 4)"),
        (
            {"intrinsics": torch.full((3, 3), float("nan"))},
            "positive focal lengths and a principal point inside",
        ),
        (
            {"intrinsics": intrinsics_matrix(60, 60, 70, 23)},
            "a principal point inside the 64x48 image",
        ),
        ({"intrinsics": intrinsics_matrix(0, 0, 31, 23)}, "positive focal lengths"),
        ({"intrinsics": "none"}, "intrinsics must be a 3x3 matrix of numbers; got 'none'"),
        (
            {"distortion": Distortion("plumb_bob", (0.1, 0, 0, 0))},
            "distortion is given without intrinsics",
        ),
        ({"prior_world_from_cam": torch.eye(3)}, "prior_world_from_cam must be 4x4; got (3, 3)"),
        ({"depth": np.zeros((4, 4), np.float32)}, "depth must be (48, 64), got (4, 4)"),
    ],
)
def test_unusable_parts_are_refused_with_the_frame_s_name(
    make_image: MakeImage, change: dict[str, object], why: str
) -> None:
    with pytest.raises(InputError, match="^photo: .*" + re.escape(why)):
        Frame(**{"image": make_image(1), "name": "photo", **change})  # type: ignore[arg-type]


def test_only_dark_frames_count_as_black(make_image: MakeImage) -> None:
    noise = np.random.default_rng(0).integers(0, 8, (48, 64, 3)).astype(np.uint8)
    noise[5, 5] = 255  # a hot pixel
    assert Frame(noise).is_black
    assert not Frame(make_image(1) // 8).is_black, "dim, but there is something to see"


def test_a_damaged_prior_is_told_apart_from_a_good_one_and_from_none(make_image: MakeImage) -> None:
    nan, mirrored = torch.eye(4), torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))
    nan[0, 3] = float("nan")
    assert Frame(make_image(1)).prior_problem is None
    assert Frame(make_image(1), prior_world_from_cam=torch.eye(4)).prior_problem is None
    for pose, why in (
        (nan, "contains NaN"),
        (mirrored, "is not a rotation"),
        (2 * torch.eye(4), "not a rotation"),
    ):
        problem = Frame(make_image(1), prior_world_from_cam=pose).prior_problem
        assert problem is not None and why in problem
