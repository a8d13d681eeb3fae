"""What a browser draws of `vggt3 view`, on a machine without ROS and without a graphics card."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

from vggt3_ros.scene.coloring import LANDMARK_COLOR, PALETTE, SEAM_COLOR
from vggt3_ros.scene.descent import Loop, Origin
from vggt3_ros.scene.storage import load_scene, save_scene

from ..chromium import CHROMIUM, Page, opened
from ..patience import PATIENCE_S

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
ROOT = Path(__file__).parents[2]
SCENE = (
    ROOT / "test" / "data" / "scenes" / "version_3"
)  # 12 landmarks, 3 keyframes with depth and images
PANEL = 340  # pixels on the right, where the page has its texts and pictures
MAGENTA, RED = ((218, 0, 228), (250, 16, 20))  # first and last keyframe
CYAN = (90, 200, 205)  # a loop, as the browser shades it


@contextmanager
def page_of(tmp_path: Path, *scenes: Path) -> Iterator[Page]:
    """The page of a program for which there is no rclpy."""
    (tmp_path / "rclpy.py").write_text('raise ImportError("there is no ROS")')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "vggt3_ros", "view", *map(str, scenes), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        lines = iter(program.stdout.readline, "")
        url = next(
            found[1]
            for line in lines
            if (found := re.match(r"open (http://\S+) in a browser", line))
        )
        try:
            with opened(url, tmp_path / "profile", 1000, 600) as page:
                yield page
        finally:
            program.send_signal(signal.SIGINT)
        assert program.wait(timeout=PATIENCE_S) == 0


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """That of a scene which was made of no others."""
    with page_of(tmp_path, SCENE) as page:
        yield page


def places(page: Page, color: tuple[int, int, int], least: int) -> np.ndarray:
    """Pixels (N, 2), x and y, of about that colour, once there are so many; not of the panel."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        drawn = np.asarray(page.picture())[:400, :-PANEL].astype(int)
        found = np.argwhere(np.abs(drawn - color).max(axis=2) < 40)[:, ::-1]
        if len(found) >= least:
            return found
        time.sleep(0.2)
    raise AssertionError(f"there are {len(found)} pixels of colour {color}, expected {least}")


def test_landmarks_and_keyframes_are_drawn_and_a_click_on_one_shows_its_depth(page: Page) -> None:
    assert len(places(page, LANDMARK_COLOR, 12)) < 1000, "a landmark is a few pixels"
    places(page, MAGENTA, 20)
    last = places(page, RED, 20)
    text = "document.body.innerText"
    assert "a.png: near is red" in page.ask(text) and "scale: metric (pose_priors)" in page.ask(
        text
    )
    x, y = last[np.abs(last - np.median(last, axis=0)).sum(axis=1).argmin()].tolist()
    page.click(x, y)
    end = time.monotonic() + PATIENCE_S
    while "c.png: near is red" not in page.ask(text):
        assert time.monotonic() < end, page.ask(text)
        time.sleep(0.2)


def test_a_merged_scene_shows_whose_keyframes_it_has_what_they_share_and_loops(
    tmp_path: Path,
) -> None:
    origins = (Origin("1" * 32, "monday", 1), Origin("2" * 32, "<tuesday>", 2))
    scene = replace(load_scene(SCENE), origins=origins, loops=(Loop(0, 2),), depth=None)
    scene = replace(scene, has_refined_points=False)
    with page_of(tmp_path, save_scene(scene, tmp_path / "both")) as page:
        places(page, SEAM_COLOR, 10)
        for color in PALETTE[:2]:
            places(page, color, 20)
        places(page, CYAN, 100)
        text = page.ask("document.body.innerText")
        assert "monday: 1 keyframe" in text and "<tuesday>: 2 keyframes" in text
        assert "landmarks of several scenes: 10" in text and "loops: 1" in text


def test_scenes_that_nothing_ties_are_shown_side_by_side(tmp_path: Path) -> None:
    copy = save_scene(load_scene(SCENE), tmp_path / "copy")
    with page_of(tmp_path, SCENE, copy) as page:
        for color in PALETTE[:2]:
            places(page, color, 10)
        text = page.ask("document.body.innerText")
        assert "copy stands beside the others" in text and "is the same scene as" in text
        assert "copy: 3 keyframes" in text
