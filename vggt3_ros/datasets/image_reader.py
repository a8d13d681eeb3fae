"""The IMAGES arguments of `map` and `localize`: folders, image files, videos and rooms, read one
frame at a time.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vggt3_ros.datasets.colmap_cameras import ColmapCameras
from vggt3_ros.datasets.image_files import ImageFile, image_files
from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.datasets.load import is_procedural, load_sequence
from vggt3_ros.datasets.sequence import Sequence as RoomSequence
from vggt3_ros.datasets.videos import lost_frames, video_frames, video_header
from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.deep_files import bit_depth_of
from vggt3_ros.pipeline.frame import Frame, read_image
from vggt3_ros.pipeline.image_file import opened_image


class ImageReader:
    """Iterates over the frames that the arguments name, in their order; folders in natural order of
    the file names.

    Stamps grow over all frames: those of each source go on after the last one of the source before.
    No two frames have the same name. What cannot be used is left out and noted in `skipped` as
    (name, reason). `part` says which frames of a room are meant; rooms bring their own calibration,
    and as map frames their own poses. `bit_depth` says how many bits images of more than 8 have; 0:
    as some of them tell. Making one raises `InputError` for arguments that do not exist or hold no
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
        self._sources = _sources(arguments)
        self._bit_depth = bit_depth_of(self._photographs(), bit_depth)
        if self._bit_depth.bits > bit_depth:
            bits = f"images of {self._bit_depth.bits} bits, by their brightest pixel"
            print(f"vggt3: {bits}; give --bit-depth if they can have more", file=sys.stderr)

    @property
    def has_video(self) -> bool:
        """Whether any of the sources is a video, whose frames nobody has chosen one by one."""
        return any(
            isinstance(source, ImageFile) and source.is_video and not source.problem
            for source in self._sources
        )

    def __len__(self) -> int:
        """How many images there are, usable or not; for videos what their headers promise."""
        return sum(self._count(source) for source in self._sources)

    def decoded_bytes(self, most: int | None = None) -> int:
        """Bytes of the pixels of all photographs, and of the `most` largest video frames (None: of
        all), by headers.

        Rooms count nothing because they are in memory already, nor do files that cannot be read:
        they are skipped.
        """
        files = [
            source
            for source in self._sources
            if isinstance(source, ImageFile) and not source.problem
        ]
        total = 0
        left = len(self) if most is None else most
        for file in sorted(files, key=_bytes_of_one, reverse=True):
            count = min(self._count(file), left) if file.is_video else 1
            total += _bytes_of_one(file) * count
            left -= count if file.is_video else 0
        return total

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame, _ in self.with_origin())

    def with_origin(self) -> Iterator[tuple[Frame, bool]]:
        """The frames, each with whether it is of a video."""
        positions = itertools.count()
        next_stamp_ns = 0
        names: set[str] = set()
        for source in self._sources:
            start_ns = next_stamp_ns
            is_video = isinstance(source, ImageFile) and source.is_video
            for frame in self._frames(source, positions):
                name = _unlike(names, frame.name)
                names.add(name)
                stamped = replace(frame, stamp_ns=start_ns + frame.stamp_ns, name=name)
                next_stamp_ns = stamped.stamp_ns + 1
                yield stamped, is_video

    def _frames(
        self, source: ImageFile | RoomSequence, positions: Iterator[int]
    ) -> Iterator[Frame]:
        """Frames of one source, with its own stamps; takes a position for every image that is not
        of a room.
        """
        if isinstance(source, RoomSequence):
            for index in getattr(source.split(), self._part):
                yield source.frame(index, with_prior=self._part == "map")
        elif source.problem:
            if not source.path.is_dir():
                next(positions)
            self.skipped.append((source.name, source.problem))
        elif source.is_video:
            yield from self._video(source, positions)
        else:
            frame = self._photograph(source, next(positions))
            if frame is not None:
                yield frame

    def _photographs(self) -> list[Path]:
        files = [
            source
            for source in self._sources
            if isinstance(source, ImageFile) and not source.problem
        ]
        return [file.path for file in files if not file.is_video]

    def _photograph(self, file: ImageFile, position: int) -> Frame | None:
        # a rotated photograph is set upright unless the calibration is for the pixels as stored
        try:
            image = read_image(
                file.path, upright=self._known.intrinsics is None, bit_depth=self._bit_depth
            )
            frame = self._known.frame(image, position, str(file.path))
            return replace(frame, name=file.name)
        except InputError as error:
            self.skipped.append((file.name, str(error)))
            return None

    def _video(self, file: ImageFile, positions: Iterator[int]) -> Iterator[Frame]:
        header = video_header(file.path)
        decoded = 0
        stem = file.name.removesuffix(file.path.suffix)
        for decoded, frame in enumerate(video_frames(file.path), start=1):
            yield self._known.frame(
                frame.image, next(positions), f"{stem}_{decoded - 1:06d}", frame.stamp_ns
            )
        lost = lost_frames(header, decoded)
        if lost is not None:
            self.skipped.append((file.name, lost))

    def _count(self, source: ImageFile | RoomSequence) -> int:
        if isinstance(source, RoomSequence):
            return len(getattr(source.split(), self._part))
        if source.problem:
            return 0 if source.path.is_dir() else 1
        return video_header(source.path).frames if source.is_video else 1


def input_files(arguments: Sequence[str]) -> list[Path]:
    """Every file that the arguments stand for; nothing is decoded or rendered. Raises `InputError`
    like the reader.
    """
    given = [argument for argument in arguments if not is_procedural(argument)]
    return [file.path for file in image_files(given)]


def _sources(arguments: Sequence[str]) -> list[ImageFile | RoomSequence]:
    """What the arguments stand for, in their order; rooms are rendered."""
    sources: list[ImageFile | RoomSequence] = []
    for made, group in itertools.groupby(arguments, key=is_procedural):
        if not made:
            sources += image_files(list(group))
            continue
        for room in group:
            print(f"vggt3: rendering {room}", file=sys.stderr)
            sources.append(load_sequence(room))
    return sources


def _unlike(names: Collection[str], name: str) -> str:
    """The name, with a number behind it if there is one like it: of two rooms, or v.mp4 and
    v.avi.
    """
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in names)


def _bytes_of_one(file: ImageFile) -> int:
    """Bytes of one decoded RGB image of a photograph or video; 0 where its header cannot be
    read.
    """
    if file.is_video:
        header = video_header(file.path)
        return 3 * header.width * header.height
    try:
        with opened_image(file.path) as image:
            width, height = image.size
    except InputError:
        return 0
    return 3 * int(width) * int(height)
