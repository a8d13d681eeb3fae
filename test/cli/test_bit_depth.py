"""--bit-depth, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.image_reader import ImageReader
from vggt3_ros.datasets.known_cameras import KnownCameras


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Three images of a 12-bit camera, of which the last one alone is bright."""
    for name, brightest in (("0", 200), ("1", 900), ("2", 4000)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((16, 24), brightest, np.uint16))
    return tmp_path


def test_images_of_a_folder_have_one_white(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = list(ImageReader([str(night)], "map", KnownCameras()))
    assert [int(frame.image.max()) for frame in frames] == [12, 56, 249]
    assert (
        "images of 12 bits, by their brightest pixel; give --bit-depth if they can"
        in capsys.readouterr().err
    )


def test_the_given_depth_holds_and_what_exceeds_it_is_left_out(
    night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = ImageReader([str(night)], "map", KnownCameras(), 10)
    assert [int(frame.image.max()) for frame in reader] == [50, 224]
    ((name, reason),) = reader.skipped
    assert (
        name == "2.png"
        and "pixels up to 4000, but bit_depth is 10" in reason
        and not capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["map", "localize"])
@pytest.mark.parametrize("value", ["7", "17", "-1", "twelve"])
def test_a_depth_that_no_image_has_is_refused(
    command: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        ["map", "images", "--out", "scene"] if command == "map" else ["localize", "scene", "images"]
    )
    assert main([*arguments, f"--bit-depth={value}"]) == 2
    assert f"{value!r} is not a whole number from 8 to 16" in capsys.readouterr().err
