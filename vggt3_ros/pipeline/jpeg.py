"""Whether a JPEG image is whole, told by its markers (ITU-T T.81, annex B) and not by what a
decoder makes of it.

Decoders paint what is missing grey and say nothing. Nor do the last bytes tell: what follows a
whole image may be anything, and a cut image may be followed by another one, whose end is not its
own.
"""

from __future__ import annotations

import re

_SOI = 0xD8  # start of image
_EOI = 0xD9  # end of image
_SOS = 0xDA  # start of scan: compressed pixels follow its segment
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and restarts: markers without a segment
_TABLES = frozenset((0xC4, 0xC8, 0xCC))  # among C0 to CF, those that are not the start of a frame
# application data and comments: may hold a thumbnail
_FREE_CONTENT = frozenset((*range(0xE0, 0xF0), 0xFE))
_MIN_IMAGE = 200  # bytes; what begins nearer to the end of a segment is no thumbnail

# In compressed pixels FF is followed by 00 (a pixel byte FF), a restart marker or more FF; the next
# other one ends them. (Beginning with a literal byte, this is searched 20 times as fast as with
# \xff+.)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)


def is_jpeg(data: bytes | memoryview) -> bool:
    """Whether the bytes begin like a JPEG image."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def jpeg_length(data: bytes | memoryview) -> int | None:
    """How many bytes the JPEG image at the beginning of `data` takes, its end marker included.

    None when that image is not whole: it is cut off, another one begins before it ends, or there is
    none. What comes behind a whole image does not matter. Images inside its segments, such as a
    thumbnail, are not looked at.
    """
    if not is_jpeg(data):
        return None
    position = 2
    has_frame = False
    has_scan = False
    while (marker := _MARKER.match(data, position)) is not None:
        kind = marker[1][0]
        position = marker.end()
        if kind == _EOI:
            return position if has_frame and has_scan else None
        if kind == _SOI:
            return None
        if kind in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        start = position
        position += length
        if length < 2 or position > len(data) or _is_interrupted(data, kind, start, position):
            return None
        has_frame |= 0xC0 <= kind <= 0xCF and kind not in _TABLES
        if kind == _SOS:
            has_scan = True
            end = _END_OF_SCAN.search(data, position)
            if end is None:
                return None
            position = end.start()
    return None


def _is_interrupted(data: bytes | memoryview, kind: int, start: int, end: int) -> bool:
    """Whether another image begins inside the segment, which was cut and then takes what it lacks
    from that one.
    """
    if kind in _FREE_CONTENT:
        start = max(start, end - _MIN_IMAGE)
    return b"\xff\xd8\xff" in bytes(data[start : end + 2])
