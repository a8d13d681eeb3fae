"""The line that names the columns of a pose file, if it has one: w of the quaternion may come
first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known

_ORDER = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
_KEYS = (
    "timestamp", "time", "stamp", "t", "s", "sec", "seconds", "ns", "frame", "frame_number",
    "frame_id", "index",
    "number", "id", "image", "image_name", "name", "file", "filename",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Which of a row's fields are tx ty tz qx qy qz qw, None where no line says so, and how many
    lines were names.
    """

    order: tuple[int, ...] | None = None
    skipped: int = 0

    def reordered(self, fields: list[str]) -> list[str]:
        """The seven fields of a row (without its key) as tx ty tz qx qy qz qw; others as they
        are.
        """
        if self.order is None or len(fields) != len(self.order):
            return fields
        return [fields[index] for index in self.order]


def order_of_columns(lines: Sequence[tuple[str, str]]) -> Columns:
    """Read the names from the first row of data, or from the comment before it, if they tell of a
    quaternion.

    lines: places and lines without empty ones. Raises InputError for columns that are unknown or in
    a place where they cannot be, by name.
    """
    first = next(
        (number for number, (_, line) in enumerate(lines) if not line.startswith("#")), len(lines)
    )
    for where, line in lines[first : first + 1]:
        names = _names(line)
        if any(re.fullmatch(r"[A-Za-z_]\w*", name) for name in names[1:2]) and "qw" in names:
            return Columns(_order(names, where), 1)
    fields = _names(lines[first][1]) if first < len(lines) else []
    for where, line in reversed(lines[:first]):
        names = _names(line)
        if "qw" in names and len(names) == len(fields):  # a sentence about the columns is none
            return Columns(_order(names, where))
    return Columns()


def _names(line: str) -> list[str]:
    """The names of a line, ours where they are known: p_RS_R_x [m], pose.position.x and x are
    tx.
    """
    plain = re.sub(r"\[[^\]]*\]|\([^)]*\)|[#\"']", " ", line)
    names = [
        re.sub(r"\W+", "_", name.strip()).lower()
        for name in re.split(r"[\s,;]+", plain)
        if name.strip()
    ]
    return [_our_name(name) for name in names]


def _our_name(name: str) -> str:
    position = re.fullmatch(
        r"(?:\w*pos(?:ition)?_?|\w*trans(?:lation)?_?|t_?|p_?|p_\w+_)?([xyz])", name
    )
    rotation = re.fullmatch(
        r"(?:\w*quat(?:ernion)?_?|\w*orientation_|\w*rot(?:ation)?_?|q_?|q_\w+_)([xyzw])", name
    )
    if rotation:
        return f"q{rotation[1]}"
    return f"t{position[1]}" if position else name


def _order(names: list[str], where: str) -> tuple[int, ...]:
    check_known(names, (*_KEYS, *_ORDER), where, "columns")
    if len(names) != 1 + len(_ORDER) or names[0] in _ORDER or set(names[1:]) != set(_ORDER):
        expected = f"a frame, time or image, then {' '.join(_ORDER)} in any order"
        raise InputError(f"{where}: columns {', '.join(names)}; expected {expected}")
    return tuple(names[1:].index(name) for name in _ORDER)
