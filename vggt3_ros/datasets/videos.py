"""Frames of a video: upright as players show them, with their times, and how many there should have
been.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.datasets.mp4 import quarters_clockwise

_FRACTION = 0.95  # of the promised frames; headers of some formats only estimate them
_STDERR = 2  # the file that libraries in C write to
_PERIOD_NS = round(1e9 / 30)  # between frames of a video that does not tell its rate


@dataclass(frozen=True)
class VideoHeader:
    """What a video promises: frames (at least 1), and width and height in pixels, 0 where it cannot
    be opened.
    """

    frames: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """An upright image (H, W, 3) uint8 RGB, and the time since the first frame, which grows from
    frame to frame.
    """

    image: npt.NDArray[np.uint8]
    stamp_ns: int


def video_header(path: Path) -> VideoHeader:
    """Read the header alone."""
    import cv2

    with _opened(path) as capture:
        frames, width, height = (
            _number(capture.get(which))
            for which in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
    return VideoHeader(max(1, int(frames)), int(width), int(height))


def video_frames(path: Path) -> Iterator[VideoFrame]:
    """Every frame that can be decoded; none if none can."""
    import cv2

    with _opened(path) as capture:
        quarters = _quarters_left(capture, path)
        rate = _number(capture.get(cv2.CAP_PROP_FPS))
        period_ns = round(1e9 / rate) if 1 <= rate <= 1000 else _PERIOD_NS
        first_ns = 0
        stamp_ns = -1
        while True:
            success, image = capture.read()
            if not success:
                return
            reported_ns = round(1e6 * _number(capture.get(cv2.CAP_PROP_POS_MSEC)))
            if stamp_ns < 0:
                # that of the first frame, or of the one behind it, depending on OpenCV's version
                first_ns = reported_ns
                stamp_ns = 0
            else:
                reported_ns -= first_ns
                stamp_ns = reported_ns if reported_ns > stamp_ns else stamp_ns + period_ns
            yield VideoFrame(np.ascontiguousarray(np.rot90(image, -quarters)[:, :, ::-1]), stamp_ns)


def lost_frames(header: VideoHeader, decoded: int) -> str | None:
    """Why fewer frames came than the header promised; None when about all came."""
    if decoded == 0:
        return "no frame of this video can be decoded; convert it, for example to mp4 with H.264"
    if decoded < _FRACTION * header.frames - 1:
        return (
            f"only the first {decoded} of {header.frames} frames can be decoded and are used: the"
            " video is cut off or damaged; copy it again"
        )
    return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import cv2

    # what is wrong with a video is said by us, once
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with _silent():
        capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep off the terminal what FFmpeg writes there by itself while older OpenCV (4.5, 4.6) opens
    a video.
    """
    sys.stderr.flush()
    before = os.dup(_STDERR)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, _STDERR)
        yield
    finally:
        os.dup2(before, _STDERR)
        os.close(before)
        os.close(nothing)


def _quarters_left(capture: Any, path: Path) -> int:
    """By how many quarters the images have to be rotated clockwise once OpenCV has decoded
    them.

    By default OpenCV rotates them itself, and in some versions in the wrong direction: it is set
    not to.
    """
    import cv2

    quarters = quarters_clockwise(path)
    if quarters is None:
        return 0
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    return 0 if capture.get(cv2.CAP_PROP_ORIENTATION_AUTO) else quarters


def _number(value: float) -> float:
    """A property of a video, 0 where it is unknown: OpenCV then says 0, something negative or
    NaN.
    """
    return value if math.isfinite(value) and value > 0 else 0.0
