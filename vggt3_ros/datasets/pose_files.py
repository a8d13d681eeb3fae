"""Text files of camera poses: a 4x4 or 3x4 matrix or a position and a quaternion in each row, in
the common layouts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from torch import Tensor

from vggt3_ros.datasets.pose_columns import order_of_columns
from vggt3_ros.datasets.text_files import numbers, pose_from_numbers
from vggt3_ros.errors import InputError
from vggt3_ros.files import is_number, read_text
from vggt3_ros.geometry.se3 import rotation_from_quaternion, se3

_TUM = 7
_KITTI = 12
_MATRIX = 16
_LAYOUTS = (
    "index and 16 numbers of a 4x4 camera-to-world pose, or 12 of its upper rows (KITTI; the index"
    " may be left out), or timestamp tx ty tz qx qy qz qw (TUM); instead of index or timestamp,"
    " each may have an image's file name"
)
_MAX_DIGITS = 20  # of a frame number, or of nanoseconds since 1970
_LAST_ROW = ["0", "0", "0", "1"]
_SEPARATORS = " \t,;"
_FIELD = re.compile(rf"[^{_SEPARATORS}]+")


@dataclass(frozen=True, eq=False)
class PoseRow:
    """One row: its place "FILE, line N", what stands before the numbers, the numbers as they are
    written.

    key: frame number, time in seconds or an image's name, as `PoseFile.kind` tells.
    """

    where: str
    key: str
    fields: list[str]

    @property
    def is_lost(self) -> bool:
        """Whether a number is NaN: trackers write so when they are lost."""
        return any(field.lower().lstrip("+-") == "nan" for field in self.fields)

    def world_from_cam(self) -> Tensor:
        """The pose (4, 4) float64. Raises InputError naming the place."""
        if len(self.fields) != _TUM:
            last_row = _LAST_ROW if len(self.fields) == _KITTI else []
            return pose_from_numbers(self.fields + last_row, self.where)
        values = numbers(self.fields, self.where)
        length = float(values[3:].norm())
        if abs(length - 1) > 0.01:
            raise InputError(f"{self.where}: the quaternion has length {length:.4g}, expected 1")
        return se3(rotation_from_quaternion(values[3:]), values[:3])


@dataclass(frozen=True, eq=False)
class PoseFile:
    """The rows of a pose file, in its order, and what their keys are."""

    path: Path
    rows: tuple[PoseRow, ...]
    kind: Literal["number", "time", "name"]


def read_pose_file(
    path: Path, numbers_of_a_pose: int | None = None, meaning: str = _LAYOUTS
) -> PoseFile:
    """Read the file; its first row tells the layout, which the others then must have.

    Columns may be divided by white space, commas or semicolons, file names may hold spaces. A line
    of column names, also as a comment, may say that the quaternion's w comes first. Rows without a
    key are numbered from 0. numbers_of_a_pose: the only layout taken; `meaning` then describes it.
    Raises InputError naming file and line.
    """
    lines = [
        (f"{path}, line {number}", line)
        for number, line in enumerate(read_text(path).splitlines(), start=1)
    ]
    lines = [(where, line.strip()) for where, line in lines if line.strip(_SEPARATORS)]
    _refuse_foreign(path, lines)
    columns = order_of_columns(lines)
    data = [(where, line) for where, line in lines if not line.startswith("#")][columns.skipped :]
    if not data:
        raise InputError(f"{path}: no data, expected rows of {meaning}")
    _refuse_blank_keys(data)
    keyed, count = _layout(*data[0], numbers_of_a_pose, meaning)
    rows = []
    for position, (where, line) in enumerate(data):
        key, fields = _divided(where, line, keyed, count, meaning)
        rows.append(PoseRow(where, key if keyed else str(position), columns.reordered(fields)))
    kind = _kind(rows)
    _refuse_second_poses(rows, kind)
    return PoseFile(path, tuple(rows), kind)


def _refuse_foreign(path: Path, lines: Sequence[tuple[str, str]]) -> None:
    """Raise InputError for files that hold poses, but of another program and to be given
    otherwise.
    """
    text = " ".join(line for _, line in lines[:6])
    if "IMAGE_ID" in text and "CAMERA_ID" in text:
        raise InputError(
            f"{path} is the images.txt of a COLMAP model; give its folder with --from-colmap"
        )
    if text.startswith(("{", "[")):
        raise InputError(f"{path} is JSON; poses are rows of {_LAYOUTS}")


def _refuse_blank_keys(data: Sequence[tuple[str, str]]) -> None:
    """Raise InputError where some rows begin with an empty field: what stands there in others
    cannot be guessed.
    """
    blank = [where for where, line in data if line[0] in ",;"]
    if 0 < len(blank) < len(data):
        raise InputError(
            f"{blank[0]}: the first field is empty; give every row its frame, time or image, or"
            " remove the row"
        )


def _layout(where: str, line: str, only: int | None, meaning: str) -> tuple[bool, int]:
    """Whether rows have a key, and how many numbers of a pose, by the first one."""
    fields = _FIELD.findall(line)
    numeric = 0
    while numeric < len(fields) and is_number(fields[-1 - numeric]):
        numeric += 1
    if only is not None:
        return True, only
    if len(fields) in (_KITTI, _MATRIX) and numeric == len(fields):
        return False, len(fields)
    for count in (_MATRIX, _KITTI, _TUM):
        if len(fields) == count + 1 or (numeric in (count, count + 1) and len(fields) > count):
            return True, count
    raise InputError(
        f"{where}: got {len(fields)} columns, expected {_MATRIX + 1}, {_KITTI} or {_TUM + 1}"
        f" ({meaning})"
    )


def _divided(where: str, line: str, keyed: bool, count: int, meaning: str) -> tuple[str, list[str]]:
    """A row's key, with the spaces within it, and its last `count` fields."""
    fields = list(_FIELD.finditer(line))
    expected = count + keyed
    # then it may hold spaces
    named = keyed and not all(is_number(field.group()) for field in fields[:-count])
    if len(fields) < expected or (len(fields) > expected and not named):
        raise InputError(f"{where}: got {len(fields)} columns, expected {expected} ({meaning})")
    key = line[: fields[-count].start()].strip(_SEPARATORS + "\"'")
    return key.replace("\\", "/"), [field.group() for field in fields[-count:]]


def _kind(rows: Sequence[PoseRow]) -> Literal["number", "time", "name"]:
    if all(row.key.isdecimal() and len(row.key) <= _MAX_DIGITS for row in rows):
        return "number"
    return "time" if all(is_number(row.key) and float(row.key) >= 0 for row in rows) else "name"


def _refuse_second_poses(rows: Sequence[PoseRow], kind: str) -> None:
    seen = set()
    read: Callable[[str], object] = {"number": int, "time": float, "name": PurePath}[kind]
    for row in rows:
        key = read(row.key)
        if key in seen:
            raise InputError(f"{row.where}: frame {row.key} has a second pose; give one per frame")
        seen.add(key)
