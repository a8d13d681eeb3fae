"""Small data sets on disk, written by the tests themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

WIDTH, HEIGHT = 16, 12


def write_image(path: Path, value: int = 100) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), value, dtype=np.uint8)).save(path)


def write_depth(path: Path, value: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), value, dtype=np.uint16)).save(path)


def pose_text(x: float) -> str:
    return f"1 0 0 {x} 0 1 0 0 0 0 1 0 0 0 0 1"


@pytest.fixture
def plain_folder(tmp_path: Path) -> Path:
    """Six frames in the plain layout: camera i at x = i / 10 m, image of grey 40 + 10 i; frame 0
    has a depth, 2 m.
    """
    folder = tmp_path / "desk"
    for i in range(6):
        write_image(folder / "images" / f"{i:06d}.png", 40 + 10 * i)
    write_depth(folder / "depth" / "000000.png", 2000)
    lines = ["# index then 16 numbers"] + [f"{i} {pose_text(i / 10)}" for i in range(6)]
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    camera = {
        "fx": 20,
        "fy": 20,
        "cx": 8,
        "cy": 6,
        "width": WIDTH,
        "height": HEIGHT,
        "distortion": "none (pinhole)",
    }
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    (folder / "split.json").write_text(
        json.dumps({"sparse": {"map": [0, 2, 4], "query": [3], "query_info": []}})
    )
    return folder


@pytest.fixture
def tum_folder(tmp_path: Path) -> Path:
    """A TUM RGB-D folder of 9 images at 2 Hz; poses at 10 Hz, camera at x = t metres; depth of
    1 m.
    """
    folder = tmp_path / "rgbd_dataset_freiburg1_desk"
    rgb, depth, truth = ["# color images"], ["# depth maps"], ["# timestamp tx ty tz qx qy qz qw"]
    for i in range(9):
        t = 100 + 0.5 * i
        write_image(folder / "rgb" / f"{t:.6f}.png", 10 * i)
        write_depth(folder / "depth" / f"{t:.6f}.png", 5000)
        rgb.append(f"{t:.6f} rgb/{t:.6f}.png")
        depth.append(f"{t + 0.012:.6f} depth/{t:.6f}.png")
    for i in range(-1, 42):
        t = 100 + 0.1 * i + 0.003
        truth.append(f"{t:.4f} {t - 100.003:.4f} 0 1 0 0 0.70710678 0.70710678")
    for name, lines in (("rgb.txt", rgb), ("depth.txt", depth), ("groundtruth.txt", truth)):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def seven_scenes_folder(tmp_path: Path) -> Path:
    """A 7-Scenes scene with seq-01 (3 frames, to map) and seq-02 (2 frames, queries)."""
    folder = tmp_path / "chess"
    for sequence, count in ((1, 3), (2, 2)):
        for i in range(count):
            stem = folder / f"seq-{sequence:02d}" / f"frame-{i:06d}"
            write_image(Path(f"{stem}.color.png"), 10 * i)
            write_depth(Path(f"{stem}.depth.png"), 65535 if i == 2 else 1500)
            rows = pose_text(sequence + i / 10).split()
            text = "\n".join("\t ".join(rows[r : r + 4]) for r in (0, 4, 8, 12))
            Path(f"{stem}.pose.txt").write_text(text + "\n")
    (folder / "intrinsics.json").write_text(json.dumps({"fx": 525, "fy": 525, "cx": 8, "cy": 6}))
    (folder / "TrainSplit.txt").write_text("sequence1\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")
    return folder


@pytest.fixture
def replace_line() -> Callable[[Path, int, str], None]:
    """Overwrite line `number` (from 1) of a text file."""

    def replace(path: Path, number: int, line: str) -> None:
        lines = path.read_text().splitlines()
        lines[number - 1] = line
        path.write_text("\n".join(lines) + "\n")

    return replace
