"""`vggt3 map` ended from outside at any moment leaves the old scene or the new one, and nothing
half-written.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vggt3_ros.scene.storage import load_scene

from ..patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def start_map(images: list[Path], scene: Path, checkpoint: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vggt3_ros", "map", *images, "--out", scene, "--model", checkpoint],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def saving_into(scene: Path, file: str) -> bool:
    """Whether the folder that is to become the scene has this file already."""
    return any(scene.parent.glob(f".{scene.name}.*/{file}"))


def frames_in(scene: Path) -> int | None:
    """Frames of the scene, cheaply; None while it is being exchanged on a file system that cannot
    do it in one step.
    """
    try:
        frames: int = json.loads((scene / "scene.json").read_bytes())["frames"]
    except FileNotFoundError:
        return None
    return frames


MOMENTS: dict[str, Callable[[Path, float], bool]] = {
    "starting": lambda scene, seconds: seconds > 0.5,
    "computing": lambda scene, seconds: seconds > 2.0,
    "saving memory": lambda scene, seconds: saving_into(scene, "memory.safetensors"),
    "saving points": lambda scene, seconds: saving_into(scene, "points.ply"),
    "saving the description": lambda scene, seconds: saving_into(scene, "scene.json"),
    "just saved": lambda scene, seconds: frames_in(scene) == 3,
    "drawing": lambda scene, seconds: any(scene.parent.glob(f".{scene.name}.*.png")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_map_leaves_the_old_scene_or_the_new_one(
    moment: str, scene: Path, images: Path, checkpoint: Path, vggt3: Callable[..., Any]
) -> None:
    assert len(load_scene(scene).keyframes) == 5
    files = sorted(images.iterdir())[:3]
    process = start_map(files, scene, checkpoint)
    started = time.monotonic()
    while process.poll() is None and not MOMENTS[moment](scene, time.monotonic() - started):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert len(load_scene(scene).keyframes) in (3, 5)

    assert vggt3("map", *files, "--out", scene, "--model", checkpoint).code == 0
    assert len(load_scene(scene).keyframes) == 3
    assert not [
        path for path in scene.parent.iterdir() if path.name.startswith(".") and path.is_dir()
    ]


def test_interrupt_is_exit_code_130_and_leaves_nothing(
    images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(200):
        for image in images.iterdir():
            shutil.copy(image, photographs / f"{number}_{image.name}")
    process = start_map([photographs], tmp_path / "scene", checkpoint)
    assert process.stderr is not None
    assert process.stderr.readline().startswith(("mapping", "reading"))
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "Traceback" not in error, error
    assert error.strip().endswith("vggt3: error: interrupted; nothing was left half-written")
    assert list(tmp_path.iterdir()) == [photographs]
