"""Films the page of `vggt3 demo --view` in Chromium: python3 docs/images/film_demo.py FILE.gif.

Needs Chromium, a font with emoji (Debian: fonts-noto-color-emoji), `pip install
'.[ros-wheels,view]'`, and no screen. The demo runs first, and what the viewer hears is kept with
its time; then the viewer is told it again, as fast as a browser without a graphics card draws it.
The film leaves out what takes time and shows nothing new (start, reconstruction), and ends with the
second drive.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rclpy
from PIL import Image, ImageChops
from rclpy.executors import SingleThreadedExecutor

from vggt3_ros.nodes.runtime.middleware import own_domain
from vggt3_ros.nodes.viewer_node import ViewerNode

sys.path.insert(0, str(Path(__file__).parents[2] / "test"))
from chromium import Page, opened

WIDTH, HEIGHT = 1120, 640  # pixels of the page
SCALE = 0.75  # of the GIF's pixels
STEP = 0.5  # seconds of the demo between pictures
BEFORE = 2  # so many times as long between pictures before there is a map
DRAWING = 0.6  # seconds that the browser may take for one
NOTCHES = 4  # of the mouse's wheel that the view comes closer to the map
AROUND = 16  # pictures of the view that goes around at the end, and back
PACE = 5  # pixels that the mouse draws it by, a picture
SHOWN, LAST = 0.12, 2.0  # seconds that the GIF shows each picture, and the last
COLORS = 128
FEWEST_CHANGED = 40  # pixels; a picture that differs by less is left out
HEARD = ("points", "keyframes", "pose", "truth", "localizer", "mapper")


def _noting(topic: str) -> Callable[[Any, Any], None]:
    def note(recorder: Any, message: Any) -> None:
        recorder.heard.append((time.monotonic(), topic, message))

    return note


class Recorder(ViewerNode):
    """The viewer, which notes what it hears, and shows it when `tell` says so."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, Any]] = []
        super().__init__(namespace="/vggt3")

    def tell(self, until: float) -> None:
        """Show what was heard until then."""
        while self.heard and self.heard[0][0] <= until:
            _, topic, message = self.heard.pop(0)
            getattr(ViewerNode, f"_on_{topic}")(self, message)
        self._redraw()


for _topic in HEARD:
    setattr(Recorder, f"_on_{_topic}", _noting(_topic))


def come_closer(page: Page) -> None:
    """Turn the wheel of the mouse in the middle of the page."""
    for _ in range(NOTCHES):
        page.mouse("mouseWheel", page.width // 2, page.height // 2, deltaX=0, deltaY=-100)
        time.sleep(DRAWING)


def go_around(page: Page) -> Iterator[Image.Image]:
    """Pictures while the left button of the mouse draws the view to one side and back."""
    x, y = page.width // 2, page.height // 2
    page.mouse("mousePressed", x, y, buttons=1, clickCount=1)
    for index in range(AROUND):
        x += PACE if index < AROUND // 2 else -PACE
        page.mouse("mouseMoved", x, y, buttons=1)
        time.sleep(DRAWING)
        yield page.picture()
    page.mouse("mouseReleased", x, y, clickCount=1)


def listen_to_demo(recorder: Recorder, folder: Path) -> None:
    """Run the whole demo."""
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    demo = subprocess.Popen([sys.executable, "-m", "vggt3_ros", "demo", "--out", str(folder)])
    while demo.poll() is None:
        executor.spin_once(timeout_sec=0.1)
    if demo.returncode != 0:
        raise SystemExit("the demo has failed")


def film(recorder: Recorder, page: Page) -> list[Image.Image]:
    """Pictures of what was heard, until the last pose of the second drive."""
    now = next(at for at, topic, _ in recorder.heard if topic == "truth")
    mapped = next(at for at, topic, _ in recorder.heard if topic == "keyframes")
    end = max(at for at, topic, _ in recorder.heard if topic == "pose")
    pictures: list[Image.Image] = []
    while now < mapped:
        now += BEFORE * STEP
        recorder.tell(now)
        time.sleep(DRAWING)
        pictures.append(page.picture())
    come_closer(page)
    while now + STEP < end:
        now += STEP
        recorder.tell(now)
        time.sleep(DRAWING)
        pictures.append(page.picture())
    return [*pictures, *go_around(page)]


def differing(pictures: list[Image.Image]) -> list[Image.Image]:
    """The pictures that show something new."""
    kept = pictures[:1]
    for picture in pictures[1:]:
        changed = (
            ImageChops.difference(picture, kept[-1])
            .convert("L")
            .point(lambda value: 255 * (value > 24))
        )
        if sum(changed.histogram()[1:]) >= FEWEST_CHANGED:
            kept.append(picture)
    return kept


def write_gif(pictures: list[Image.Image], path: Path) -> None:
    """One palette for all pictures, so that only what moves is stored anew."""
    size = round(SCALE * WIDTH), round(SCALE * HEIGHT)
    pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    palette = pictures[-1].quantize(COLORS, Image.Quantize.FASTOCTREE)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(1000 * SHOWN)] * (len(frames) - 1) + [round(1000 * LAST)]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )
    print(f"{path}: {len(frames)} pictures, {os.path.getsize(path) / 1e6:.2f} MB")


def main() -> None:
    """Listen, film, and write."""
    target = Path(sys.argv[1])
    os.environ.update(own_domain(os.environ))
    rclpy.init()
    recorder = Recorder()
    with tempfile.TemporaryDirectory(prefix="vggt3_") as folder:
        listen_to_demo(recorder, Path(folder) / "demo")
        with opened(recorder.viewer.url, Path(folder) / "chromium", WIDTH, HEIGHT) as page:
            pictures = film(recorder, page)
        if len(sys.argv) > 2:
            for index, picture in enumerate(pictures):
                picture.save(Path(sys.argv[2]) / f"{index:03d}.png")
        write_gif(differing(pictures), target)
    recorder.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
