"""Whether a JPEG is whole is told by its markers, whatever comes behind it and whatever a thumbnail
holds.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggt3_ros.pipeline.jpeg import is_jpeg, jpeg_length


def jpeg(seed: int = 0, **options: Any) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", **options)
    return file.getvalue()


THUMBNAIL = b"Exif\0\0" + jpeg(7)  # an image inside a segment, with an end marker of its own
KINDS: list[dict[str, Any]] = [
    {},
    {"quality": 100},
    {"progressive": True},
    {"restart_marker_blocks": 2},
    {"exif": THUMBNAIL},
    {"comment": b"\xff\xd9"},
]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize(
    "behind", [b"", b"\0" * 10, b"garbage", b"\xff", b"\xff\xda\x00", jpeg(1), jpeg(1)[:300]]
)
def test_whole_image_is_whole_whatever_follows(options: dict[str, Any], behind: bytes) -> None:
    whole = jpeg(**options)
    assert jpeg_length(whole + behind) == len(whole)
    assert jpeg_length(memoryview(whole + behind)) == len(whole)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("behind", [b"", b"\0" * 10, jpeg(1)])
def test_image_cut_anywhere_is_not_whole_whatever_follows(
    options: dict[str, Any], behind: bytes
) -> None:
    whole = jpeg(**options)
    for length in range(len(whole)):
        cut = whole[:length]
        if not length and behind:
            continue  # that is the other image
        assert jpeg_length(cut + behind) is None, length


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n", b"text"]
)
def test_what_has_no_pixels_is_no_whole_image(data: bytes) -> None:
    assert jpeg_length(data) is None
    assert is_jpeg(data) == data.startswith(b"\xff\xd8\xff")
