"""The IMAGES arguments of `map` and `localize`: folders, image files, videos and rooms, read one frame at a time."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from vggt3_ros.cli.colmap_cameras import ColmapCameras
from vggt3_ros.cli.common import IMAGES_HELP
from vggt3_ros.cli.known_cameras import KnownCameras
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.sequence import Sequence as RoomSequence
from vggt3_ros.evaluation.sequences import load_sequence
from vggt3_ros.pipeline.deep_files import bit_depth_of
from vggt3_ros.pipeline.frame import Frame, read_image

_IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
_VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"))
_ROOM = "room:"


class ImageReader:
    """Iterates over the frames that the arguments name, in their order; folders in natural order of the file names.

    Stamps grow over all frames: those of each source go on after the last one of the source before.
    What cannot be used is left out and noted in `skipped` as (name, reason). `part` says which frames of a room are
    meant; rooms bring their own calibration, and as map frames their own poses. `bit_depth` says how many bits images of
    more than 8 have; 0: as some of them tell. Making one raises `InputError` for arguments that do not exist or hold no
    images.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        part: Literal["map", "query"],
        known: KnownCameras | ColmapCameras,
        bit_depth: int = 0,
    ) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._part = part
        self._known = known
        self._sources = [source for argument in arguments for source in _expand(argument)]
        photographs = [source for source in self._sources if isinstance(source, Path) and not _is_video(source)]
        self._bit_depth = bit_depth_of(photographs, bit_depth)
        if self._bit_depth.bits > bit_depth:
            bits = f"images of {self._bit_depth.bits} bits, by their brightest pixel"
            print(f"vggt3: {bits}; give --bit-depth if they can have more", file=sys.stderr)

    @property
    def has_video(self) -> bool:
        """Whether any of the sources is a video, whose frames nobody has chosen one by one."""
        return any(isinstance(source, Path) and _is_video(source) for source in self._sources)

    def __len__(self) -> int:
        """How many images there are, usable or not; for videos what their headers promise."""
        return sum(self._count(source) for source in self._sources)

    def decoded_bytes(self, most: int | None = None) -> int:
        """Bytes of the pixels of all images, or of the `most` largest, judged by the files' headers.

        Rooms count nothing because they are in memory already, nor do files that cannot be read: they are skipped.
        """
        files = [source for source in self._sources if isinstance(source, Path)]
        total, left = 0, len(self) if most is None else most
        for size, count in sorted(((_bytes_of_one(file), self._count(file)) for file in files), reverse=True):
            total += size * min(count, left)
            left -= min(count, left)
        return total

    def __iter__(self) -> Iterator[Frame]:
        positions = itertools.count()
        next_stamp_ns = 0
        for source in self._sources:
            start_ns = next_stamp_ns
            for frame in self._frames(source, positions):
                stamped = replace(frame, stamp_ns=start_ns + frame.stamp_ns)
                next_stamp_ns = stamped.stamp_ns + 1
                yield stamped

    def _frames(self, source: Path | RoomSequence, positions: Iterator[int]) -> Iterator[Frame]:
        """Frames of one source, with its own stamps; takes a position for every image that is not of a room."""
        if isinstance(source, RoomSequence):
            for index in getattr(source.split(), self._part):
                yield source.frame(index, with_prior=self._part == "map")
        elif _is_video(source):
            for name, stamp_ns, image in _video_images(source):
                yield self._known.frame(image, next(positions), name, stamp_ns)
        else:
            frame = self._photograph(source, next(positions))
            if frame is not None:
                yield frame

    def _photograph(self, path: Path, position: int) -> Frame | None:
        try:  # a turned photograph is set upright unless the calibration is for the pixels as stored
            image = read_image(path, upright=self._known.intrinsics is None, bit_depth=self._bit_depth)
            frame = self._known.frame(image, position, str(path))
            return replace(frame, name=path.name)
        except InputError as error:
            self.skipped.append((path.name, str(error)))
            return None

    def _count(self, source: Path | RoomSequence) -> int:
        if isinstance(source, RoomSequence):
            return len(getattr(source.split(), self._part))
        if not _is_video(source):
            return 1
        import cv2

        capture = cv2.VideoCapture(str(source))
        try:
            return max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        finally:
            capture.release()


def input_files(arguments: Sequence[str]) -> list[Path]:
    """Every file that the arguments stand for; nothing is decoded or rendered. Raises `InputError` like the reader."""
    return [file for argument in arguments if not argument.startswith(_ROOM) for file in _files(argument)]


def _expand(argument: str) -> Sequence[Path | RoomSequence]:
    """The files that an argument stands for, or the room, rendered."""
    if argument.startswith(_ROOM):
        print(f"vggt3: rendering {argument}", file=sys.stderr)
        return [load_sequence(argument)]
    return _files(argument)


def _files(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{argument}: no such file or folder; give {IMAGES_HELP}")
    files = [file for file in path.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file()]
    if not files:
        hint = f"; did you mean {path / 'images'}?" if (path / "images").is_dir() else ""
        raise InputError(f"{argument}: there are no images ({', '.join(sorted(_IMAGE_SUFFIXES))}) in this folder{hint}")
    files.sort(key=_natural_key)
    return files


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEO_SUFFIXES


def _bytes_of_one(path: Path) -> int:
    """Bytes of one decoded RGB image of a photograph or video; 0 where its header cannot be read."""
    if _is_video(path):
        import cv2

        capture = cv2.VideoCapture(str(path))
        try:
            width, height = (capture.get(which) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        finally:
            capture.release()
    else:
        from PIL import Image

        try:
            with Image.open(path) as file:
                width, height = file.size
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError):
            return 0
    return 3 * int(width) * int(height)


def _video_images(path: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, time since the beginning in ns and pixels (H, W, 3) RGB of every frame. Raises `InputError` if none."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    index = 0
    try:
        while True:
            success, image = capture.read()
            if not success:
                break
            stamp_ns = round(1e6 * capture.get(cv2.CAP_PROP_POS_MSEC))
            yield f"{path.stem}_{index:06d}", stamp_ns, np.ascontiguousarray(image[:, :, ::-1])
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise InputError(f"{path}: no frame of this video can be decoded; convert it, for example to mp4 with H.264")
