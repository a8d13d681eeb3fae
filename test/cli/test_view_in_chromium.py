"""What a browser draws of `vggt3 view`, on a machine without ROS and without a graphics card."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

from ..chromium import CHROMIUM, Page, opened
from ..patience import PATIENCE_S

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
ROOT = Path(__file__).parents[2]
SCENE = (
    ROOT / "test" / "data" / "scenes" / "version_3"
)  # 12 landmarks, 3 keyframes with depth and images
PANEL = 340  # pixels on the right, where the page has its texts and pictures
YELLOW, MAGENTA, RED = (
    (255, 220, 0),
    (218, 0, 228),
    (250, 16, 20),
)  # landmarks, first and last keyframe


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """The page of a program for which there is no rclpy."""
    (tmp_path / "rclpy.py").write_text('raise ImportError("there is no ROS")')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "vggt3_ros", "view", str(SCENE), "--port", "0"]
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
        with opened(url, tmp_path / "profile", 1000, 600) as page:
            yield page
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=PATIENCE_S) == 0


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
    assert len(places(page, YELLOW, 12)) < 1000, "a landmark is a few pixels"
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
