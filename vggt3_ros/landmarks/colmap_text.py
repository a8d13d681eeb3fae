"""cameras.txt and images.txt of a COLMAP model, as COLMAP and others write them; no line is passed
over unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vggt3_ros.files import is_number, read_text
from vggt3_ros.landmarks.colmap_records import ColmapCamera, ColmapImage


def read_text_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Cameras by number. Raises ValueError naming the line that is none, and when the header
    promises other ones.
    """
    cameras: dict[int, ColmapCamera] = {}
    text = read_text(path)
    for where, line in _lines(text):
        try:
            number, model, width, height, *parameters = line.replace(",", " ").split()
            camera = ColmapCamera(
                model, (int(width), int(height)), tuple(float(value) for value in parameters)
            )
        except ValueError as error:
            raise ValueError(
                f"{where}: {error}; a camera is its number, model, width, height, parameters"
            ) from error
        if int(number) in cameras:
            raise ValueError(f"{where}: camera {number} is there twice")
        cameras[int(number)] = camera
    _check_count(text, "cameras", len(cameras))
    return cameras


def read_text_images(path: Path) -> list[ColmapImage]:
    """Images in the file's order.

    COLMAP writes two lines for each, the second with its pixels, empty where there are none. What a
    line is, is told from itself, so that files are read as well whose empty lines somebody has
    taken out. Raises ValueError naming the line that is neither, and when the header promises
    another number of images.
    """
    images: list[ColmapImage] = []
    text = read_text(path)
    pixels_may_follow = False
    for where, line in _lines(text):
        if pixels_may_follow and _is_list_of_pixels(line):
            pixels_may_follow = False
            continue
        images.append(_image(where, line))
        pixels_may_follow = True
    _check_count(text, "images", len(images))
    return images


def _image(where: str, line: str) -> ColmapImage:
    fields = re.split(r"[\s,]+", line, maxsplit=9)  # a name may hold both
    try:
        _, *values, camera, name = fields
        numbers = tuple(float(value) for value in values)
        if len(numbers) != 7 or not fields[0].isdecimal():
            raise ValueError(f"{len(fields)} columns")
        return ColmapImage(name.replace("\\", "/"), int(camera), numbers[:4], numbers[4:])
    except ValueError as error:
        expected = (
            "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, nor a list of pixels X Y POINT3D_ID"
        )
        raise ValueError(f"{where}: {line[:80]!r} is no image, {expected} ({error})") from error


def _is_list_of_pixels(line: str) -> bool:
    """Whether a line is x y number x y number ...: an image's name is no number, and its columns
    are not so many.
    """
    fields = line.replace(",", " ").split()
    return (
        len(fields) % 3 == 0
        and all(is_number(field) for field in fields)
        and all(map(_is_integer, fields[2::3]))
    )


def _is_integer(field: str) -> bool:
    return re.fullmatch(r"-?\d+", field) is not None


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """The lines that are not empty and no comments, each with its place."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"line {number}", line.strip()


def _check_count(text: str, what: str, count: int) -> None:
    promised = re.search(rf"^\s*#\s*Number of {what}:\s*(\d+)", text, re.MULTILINE | re.IGNORECASE)
    if promised and int(promised[1]) != count:
        raise ValueError(f"its header promises {promised[1]} {what}, it has {count}")
