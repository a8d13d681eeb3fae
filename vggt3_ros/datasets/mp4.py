"""How an MP4 or QuickTime video has to be rotated to be upright: phones store it as their sensor
lies, and write how.

OpenCV reads it too, but gives the rotation in the wrong direction in some versions (4.6.0 with
FFmpeg 5 among them).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

_MAX_BYTES = 1 << 28  # of the index of a film; more is no index
_ONE = 1 << 16  # the matrix holds numbers with 16 bits behind the point


def quarters_clockwise(path: Path) -> int | None:
    """By how many quarters the images are to be rotated clockwise, 0 to 3. None if this is
    no such file.
    """
    try:
        moov = _read_moov(path)
    except OSError:
        return None
    for kind, track in _boxes(moov):
        if kind != b"trak":
            continue
        parts = dict(_boxes(track))
        handler = dict(_boxes(parts.get(b"mdia", b""))).get(b"hdlr", b"")
        if handler[8:12] == b"vide":
            return _quarters(parts.get(b"tkhd", b""))
    return None


def _read_moov(path: Path) -> bytes:
    """What the index of a film holds, empty where there is none. The film itself is not read."""
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            taken = 8
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
                taken = 16
            if kind == b"moov":
                return file.read(min(max(size - taken, 0), _MAX_BYTES))
            if size < taken:
                break
            file.seek(size - taken, 1)
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box, up to the first one that is damaged."""
    position = 0
    while position + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        if size < 8:
            return
        yield kind, content[position + 8 : position + size]
        position += size


def _quarters(track_header: bytes) -> int:
    """The rotation in the matrix of a track header, whose times take 4 bytes each in version 0 and
    8 in version 1.
    """
    offset = 52 if track_header[:1] == b"\x01" else 40
    if len(track_header) < offset + 8:
        return 0
    cosine, sine = struct.unpack_from(">2i", track_header, offset)
    return round(math.degrees(math.atan2(sine / _ONE, cosine / _ONE)) / 90) % 4
