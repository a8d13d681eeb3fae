"""Videos as phones and crashes leave them: turned, cut off, with frames at uneven times, or without
any.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggt3_ros.datasets.image_reader import ImageReader
from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.datasets.mp4 import quarters_clockwise

Run = Callable[..., Any]
# quarters clockwise
TURNS = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}


def write_video(path: Path, count: int, codec: str) -> None:
    """Frames of noise, bright in the corner at the top left."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for seed in range(count):
        image = np.random.default_rng(seed).integers(0, 100, (48, 64, 3), dtype=np.uint8)
        image[:16, :16] = 250
        writer.write(image)
    writer.release()


def turn(path: Path, quarters: int) -> None:
    """Write into the header of an MP4 file how its frames are to be turned, as a phone does."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 44
    a, b, c, d = (value * 65536 for value in TURNS[quarters])
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("quarters", "corner"), [(0, (0, 0)), (1, (0, -1)), (2, (-1, -1)), (3, (-1, 0))]
)
def test_a_phone_s_video_is_upright(quarters: int, corner: tuple[int, int], tmp_path: Path) -> None:
    write_video(tmp_path / "phone.mp4", 2, "mp4v")
    turn(tmp_path / "phone.mp4", quarters)
    assert quarters_clockwise(tmp_path / "phone.mp4") == quarters
    frames = list(ImageReader([str(tmp_path / "phone.mp4")], "map", KnownCameras()))
    assert [frame.name for frame in frames] == ["phone_000000", "phone_000001"]
    for frame in frames:
        assert (
            frame.size_hw == ((64, 48) if quarters % 2 else (48, 64))
            and frame.image[corner].min() > 180
        )


@pytest.mark.parametrize(
    "content", [b"", b"nonsense" * 9, b"\0\0\0\x08moov", b"\0\0\0\x01ftyp", b"\0\0\0\0moov\0\0"]
)
def test_files_that_are_no_films_have_no_turn(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert quarters_clockwise(tmp_path / "a.mp4") is None
    assert quarters_clockwise(tmp_path / "missing.mp4") is None


def test_a_video_that_is_cut_off_gives_what_it_has_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "cut.avi"
    write_video(path, 20, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = ImageReader([str(path)], "map", KnownCameras())
    count = len(list(reader))
    assert 5 < count < 15
    assert [name for name, _ in reader.skipped] == ["cut.avi"]
    assert (
        f"only the first {count} of 20 frames can be decoded and are used" in reader.skipped[0][1]
    )


def test_a_video_without_frames_is_named_and_costs_no_other_image(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("text.mp4", "cut.mp4"):  # an MP4 that was never finished lacks its index
        write_video(tmp_path / name, 5, "mp4v")
        (tmp_path / name).write_bytes(
            b"no film" if name == "text.mp4" else (tmp_path / name).read_bytes()[:1000]
        )
    videos = [tmp_path / "text.mp4", tmp_path / "cut.mp4"]
    outcome = vggt3("map", *videos, images, "--out", tmp_path / "scene", "--model", checkpoint)
    assert (
        outcome.code == 0 and "5 keyframes" in outcome.out and "skipped   2 images" in outcome.out
    ), outcome
    for name in ("text.mp4", "cut.mp4"):
        assert (
            f"vggt3: skipped {name}: no frame of this video can be decoded; convert it"
            in outcome.err
        )
    assert vggt3("map", *videos, "--out", tmp_path / "other", "--model", checkpoint).failed_with(
        "there are no frames"
    )


def test_times_grow_whatever_the_video_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    class Uneven:
        """A capture whose frames come at uneven times, two of them at the same."""

        times = iter([40.0, 60.0, 200.0, 200.0, 150.0, 400.0])

        def __init__(self, path: str) -> None:
            self.time = 0.0

        def get(self, which: int) -> float:
            return {cv2.CAP_PROP_POS_MSEC: self.time, cv2.CAP_PROP_FRAME_COUNT: float("nan")}.get(
                which, 0.0
            )

        def read(self) -> tuple[bool, Any]:
            self.time = next(self.times, -1.0)
            return self.time >= 0, np.zeros((8, 8, 3), np.uint8)

        def release(self) -> None:
            pass

    (tmp_path / "a.mkv").write_bytes(b"film")
    monkeypatch.setattr(cv2, "VideoCapture", Uneven)
    stamps = [
        frame.stamp_ns for frame in ImageReader([str(tmp_path / "a.mkv")], "map", KnownCameras())
    ]
    assert stamps == [0, 20_000_000, 160_000_000, 193_333_333, 226_666_666, 360_000_000]


def test_videos_and_photographs_of_one_shape_make_one_map(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    import cv2

    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (256, 192)
    )
    for file in sorted(images.iterdir())[:2]:
        writer.write(np.asarray(Image.open(file).resize((256, 192)))[:, :, ::-1].copy())
    writer.release()
    others = sorted(images.iterdir())[2:]
    outcome = vggt3(
        "map", tmp_path / "v.avi", *others, "--out", tmp_path / "scene", "--model", checkpoint
    )
    assert outcome.code == 0 and "5 keyframes" in outcome.out and "left out" not in outcome.out, (
        outcome
    )


def test_no_library_speaks_of_a_broken_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import cv2

    def noisy(path: str) -> Any:
        os.write(2, b"moov atom not found")
        return capture(path)

    capture = cv2.VideoCapture
    (tmp_path / "a.mp4").write_bytes(b"film")
    monkeypatch.setattr(cv2, "VideoCapture", noisy)
    assert not list(ImageReader([str(tmp_path / "a.mp4")], "map", KnownCameras()))
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"
