"""Which files a folder stands for, what they are called, and that nothing in it is left out without
a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggt3_ros.datasets.image_files import image_files
from vggt3_ros.datasets.image_reader import ImageReader
from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.errors import InputError

Run = Callable[..., Any]


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(path, "PNG")


def names(*arguments: Path) -> list[str]:
    return [file.name for file in image_files([str(argument) for argument in arguments])]


def test_images_in_sub_folders_are_found_in_natural_order_and_called_by_their_path(
    tmp_path: Path,
) -> None:
    for name in (
        "cam10/000.png",
        "cam2/010.png",
        "cam2/9.png",
        "cam2/deep/1.png",
        "z.png",
        "depth/9.png",
    ):
        photograph(tmp_path / name)
    files = image_files([str(tmp_path)])
    assert [file.name for file in files if not file.problem] == [
        "cam2/9.png", "cam2/010.png", "cam2/deep/1.png", "cam10/000.png", "z.png"
    ]  # fmt: skip
    assert [file.name for file in files if file.problem] == ["depth/"], "it is said"
    assert names(tmp_path / "depth") == ["9.png"], "given by itself it is used"
    assert names(tmp_path / "cam2", tmp_path / "cam10") == [
        "9.png",
        "010.png",
        "deep/1.png",
        "000.png",
    ]


def test_folders_with_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("left/000.png", "right/000.png"):
        photograph(tmp_path / name)
    assert names(tmp_path / "left", tmp_path / "right") == ["left/000.png", "right/000.png"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    photograph(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "b.png").symlink_to(tmp_path / "a" / "1.png")
    assert names(tmp_path) == ["a/1.png", "b.png"]


def test_hidden_files_of_other_systems_shift_no_position(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        photograph(tmp_path / name)
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "camera.json"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.png").write_bytes(b"no image")
    rows = [f"{number} 1 0 0 {number} 0 1 0 0 0 0 1 0 0 0 0 1" for number in range(3)]
    (tmp_path / "poses.txt").write_text("\n".join(rows))
    reader = ImageReader(
        [str(tmp_path)], "map", KnownCameras.from_files(tmp_path / "poses.txt", None)
    )
    assert [float(frame.prior_world_from_cam[0, 3]) for frame in reader] == [0.0, 1.0]  # type: ignore[index]
    assert reader.skipped == []


def test_whatever_is_no_usable_image_is_named_in_the_summary(
    vggt3: Run, own_images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    left_out = {
        "a.heic": "HEIC",
        "b.CR2": "raw sensor data",
        "c.dng": "raw sensor data",
        "d.gif": "256 colours",
        "e.jp2": "cannot identify",
        "f.avif": "AVIF|cannot",
        "g.jpg": "cannot identify",
        "h.mov": "name the video",
    }
    for name in left_out:
        (own_images / name).write_bytes(
            b"\0\0\0\x18ftypheic" if name == "a.heic" else b"nothing that is known"
        )
    (own_images / "link.png").symlink_to(tmp_path / "gone.png")
    (own_images / "poses.txt").write_text("no image, and by its name nobody would think so")
    expected = [*left_out, "link.png"]
    outcome = vggt3(
        "map",
        own_images,
        "--out",
        tmp_path / "s",
        "--model",
        checkpoint,
        "--json",
        tmp_path / "m.json",
    )
    assert outcome.code == 0 and f"skipped   {len(expected)} images" in outcome.out, outcome
    skipped = {
        entry["image"]: entry["reason"]
        for entry in json.loads((tmp_path / "m.json").read_text())["skipped"]
    }
    assert (
        sorted(skipped) == sorted(expected)
        and "gone.png, which does not exist" in skipped["link.png"]
    )
    for name, reason in left_out.items():
        assert any(part in skipped[name] for part in reason.split("|")), skipped[name]
        assert f"vggt3: skipped {name}: " in outcome.err


def test_a_folder_of_nothing_usable_says_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are no images \(.*\) in this folder or below it$"):
        image_files([str(tmp_path)])
    (tmp_path / "a.mov").write_bytes(b"film")
    with pytest.raises(
        InputError,
        match=r"left out: a\.mov \(a video among photographs is not read; name the video",
    ):
        image_files([str(tmp_path)])


def test_an_image_is_used_once_and_every_other_kind_of_image_is_named(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "b")  # JPEG or PNG without a suffix
    for other in ("c.exr", "d.jxl", "e.bayer", "f.3gp"):
        (tmp_path / other).write_bytes(b"other")
    (tmp_path / "notes").write_text("text")
    reader = ImageReader([str(tmp_path), str(tmp_path / "a.png")], "map", KnownCameras())
    assert [frame.name for frame in reader] == ["a.png", "b"]
    assert [name for name, _ in reader.skipped] == ["c.exr", "d.jxl", "e.bayer", "f.3gp", "a.png"]
    assert reader.skipped[-1][1] == "it is given twice and used once"


def test_of_a_folder_and_a_link_to_it_the_folder_is_named(tmp_path: Path) -> None:
    photograph(tmp_path / "z" / "1.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert names(tmp_path) == ["z/1.png"]


def test_no_two_frames_have_the_same_name(tmp_path: Path) -> None:
    import cv2

    for folder in ("x", "y"):
        photograph(tmp_path / folder / "1.png")
    for name in ("v.avi", "v.mkv"):
        writer = cv2.VideoWriter(
            str(tmp_path / name), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48)
        )
        writer.write(np.full((48, 64, 3), 99, np.uint8))
        writer.release()
    arguments = [str(tmp_path / name) for name in ("v.avi", "v.mkv", "x", "y")]
    named = [frame.name for frame in ImageReader(arguments, "map", KnownCameras())]
    assert named == ["v_000000", "v_000000 (2)", "x/1.png", "y/1.png"]
