"""Which files the IMAGES arguments stand for, in which order, what they are called, and which
cannot be used.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.image_file import OTHER_SUFFIXES

IMAGES_HELP = (
    "image files, folders with images in or below them, videos, or for a procedural place"
    " room:SEED[:FRAMES], moved:SEED[:FRAMES], corridor:SEED[:FRAMES] or yard:SEED[:FRAMES]"
)
_IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm"
)  # fmt: skip
_VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv",
    ".flv", ".3gp", ".ogv",
    ".mjpg", ".mjpeg", ".h264", ".h265",
)  # fmt: skip
# Folders beside photographs that hold pictures of another kind, and those that programs keep for
# themselves.
_NO_PHOTOGRAPHS = re.compile(r"(depth|dense|mask|label|segmentation|thumb)", re.IGNORECASE)
_PRIVATE = re.compile(r"\.|__MACOSX$|@eaDir$|\$RECYCLE")


@dataclass(frozen=True)
class ImageFile:
    """A photograph or video: where it lies, what it is called in messages and in the scene, and why
    it is left out.
    """

    path: Path
    name: str
    problem: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it holds frames that nobody has chosen one by one."""
        return self.path.suffix.lower() in _VIDEO_SUFFIXES


def image_files(arguments: Sequence[str]) -> list[ImageFile]:
    """The files that arguments stand for, as given; those of a folder and its sub-folders in
    natural order.

    A file of a folder is called by its path in it. Files of several arguments that would be called
    the same are called by more of their paths. A file that several arguments stand for is used
    once. Raises InputError for an argument that does not exist or holds no image.
    """
    files = _each_once(list(chain.from_iterable(map(_files, arguments))))
    counts = Counter(file.name for file in files)
    if max(counts.values(), default=0) < 2:
        return files
    common = os.path.commonpath([file.path.absolute().parent for file in files])
    return [
        replace(file, name=file.path.absolute().relative_to(common).as_posix()) for file in files
    ]


def _each_once(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The files; those that were there before with that as their problem."""
    seen: set[Path] = set()
    once = []
    for file in files:
        path = file.path.absolute()
        once.append(
            replace(file, problem="it is given twice and used once") if path in seen else file
        )
        seen.add(path)
    return once


def _files(argument: str) -> list[ImageFile]:
    path = Path(argument)
    if path.is_file():
        return [ImageFile(path, path.name)]
    if not path.is_dir():
        raise InputError(f"{argument}: no such file or folder; give {IMAGES_HELP}")
    files = [_of_folder(file, path) for file in _walk(path, set())]
    if all(file.problem for file in files):
        found = (
            f"; left out: {', '.join(f'{file.name} ({file.problem})' for file in files[:3])}"
            if files
            else ""
        )
        suffixes = ", ".join(_IMAGE_SUFFIXES)
        raise InputError(
            f"{argument}: there are no images ({suffixes}) in this folder or below it{found}"
        )
    return sorted(files, key=lambda file: _natural_key(file.path.relative_to(path)))


def _walk(folder: Path, walked: set[str]) -> list[Path]:
    """Everything in a folder and below it that may be an image or a video, and folders that are not
    entered.
    """
    real = os.path.realpath(folder)
    if real in walked:  # a link in a circle, or two to one folder
        return []
    walked.add(real)
    try:  # of a folder and a link to it, the folder gives the names
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError:
        return [folder]
    found = []
    for entry in entries:
        if _PRIVATE.match(entry.name):
            continue
        if entry.is_dir():
            found += [entry] if _NO_PHOTOGRAPHS.match(entry.name) else _walk(entry, walked)
        elif entry.suffix.lower() in (
            *_IMAGE_SUFFIXES,
            *OTHER_SUFFIXES,
            *_VIDEO_SUFFIXES,
        ) or _is_unnamed_image(entry):
            found.append(entry)
    return found


def _is_unnamed_image(path: Path) -> bool:
    """Whether a file without a suffix begins like a JPEG or PNG image."""
    if path.suffix or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(8).startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    except OSError:
        return False


def _of_folder(path: Path, folder: Path) -> ImageFile:
    file = ImageFile(path, path.relative_to(folder).as_posix())
    if path.is_dir():
        readable = os.access(path, os.R_OK | os.X_OK)
        why = (
            "by its name it holds no photographs; give it by itself if it does"
            if readable
            else "it cannot be opened"
        )
        return replace(file, name=file.name + "/", problem=f"a folder that is left out: {why}")
    if not path.exists():
        return replace(
            file,
            problem=f"a link to {os.readlink(path)}, which does not exist; copy the file itself",
        )
    if not path.is_file():
        return replace(file, problem="it is no regular file; leave it out")
    if file.is_video:
        return replace(
            file, problem="a video among photographs is not read; name the video itself to use it"
        )
    return file


def _natural_key(path: Path) -> tuple[list[list[tuple[int, str]]], str]:
    """Sorts img2 before img10, and a folder's files beside each other."""
    return [_numbers_and_text(name) for name in path.parts], path.as_posix()


def _numbers_and_text(name: str) -> list[tuple[int, str]]:
    """The parts of a name: (number, "") of digits, (0, text) of what is between them."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
