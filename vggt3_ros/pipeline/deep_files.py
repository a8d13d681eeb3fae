"""Image files with more than 8 bits per channel, of which Pillow keeps 8 where there are
colours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.bit_depth import AUTOMATIC, BitDepth
from vggt3_ros.pipeline.image_file import opened_image

_SAMPLE = 16  # files


def loses_bits(file: Any) -> bool:
    """Whether a Pillow image will lose bits of its colours; it no longer tells once it is decoded
    or asked for EXIF.
    """
    if not file.mode.startswith(("RGB", "LA")) or not getattr(file, "tile", None):
        return False
    # what Pillow makes the mode of, such as RGB;16B; for some decoders the first of several
    how = file.tile[0][3]
    if file.format == "PPM":
        # any other white that its header tells is meant, and Pillow heeds it
        return bool(how == ("RGB", 65535))
    return ";16" in str(how[0] if isinstance(how, tuple) else how)


def eight_bit_image(
    file: Any, path: str | os.PathLike[str], is_deep: bool, bit_depth: BitDepth
) -> Any:
    """The decoded Pillow image with 8 bits per channel, of one that was opened from `path`.

    is_deep: what `loses_bits` said. The same image where it has no more; floats stay as they are.
    Raises InputError when the pixels do not fit the depth, or cannot be read with all their bits.
    """
    from PIL import Image as Pillow

    if _has_told_white(file):
        bit_depth = BitDepth(16)
    file.load()
    if is_deep:
        return Pillow.fromarray(_eight_bit_colours(_colours(file, path), bit_depth))
    return (
        Pillow.fromarray(bit_depth.eight_bits(_grey(file))) if file.mode.startswith("I") else file
    )


def bit_depth_of(paths: Sequence[Path], bits: int = AUTOMATIC) -> BitDepth:
    """What white is in a sequence of image files: of so many bits or, for 0, as evenly spread ones
    of them tell.

    Files that cannot be read tell nothing; those that are not looked at raise the depth when they
    are read.
    """
    bit_depth = BitDepth(bits)
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(_SAMPLE, len(paths))).round().astype(int))
    for index in chosen if bits == AUTOMATIC else ():
        _look_at(paths[index], bit_depth)
    return bit_depth


def _look_at(path: Path, bit_depth: BitDepth) -> None:
    try:
        with opened_image(path) as file:
            if loses_bits(file):
                file.load()
                bit_depth.see(_colours(file, path)[..., :3])
            elif file.mode.startswith("I") and not _has_told_white(file):
                bit_depth.see(_grey(file))
    except InputError:  # reading the file later says what is wrong with it
        return


def _has_told_white(file: Any) -> bool:
    """Whether it is a PGM whose header says what white is: Pillow (newer than 9.0) then makes 65535
    of it.
    """
    return bool(
        file.format == "PPM" and file.mode == "I" and file.tile and file.tile[0][0] == "ppm"
    )


def _grey(file: Any) -> npt.NDArray[np.uint16]:
    """Pixels (H, W) of a grey image with 16 or 32 bits."""
    pixels: npt.NDArray[np.uint16] = np.clip(np.asarray(file), 0, 65535).astype(np.uint16)
    return pixels


def _colours(file: Any, path: str | os.PathLike[str]) -> npt.NDArray[np.uint16]:
    """Pixels (H, W, 3 or 4), RGB or RGBA, with all their bits. Raises InputError when OpenCV does
    not give them.
    """
    import cv2

    try:
        pixels: Any = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is not None and pixels.dtype == np.uint16 and pixels.ndim == 3:
        colours: npt.NDArray[np.uint16] = np.ascontiguousarray(
            pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        )
        # Pillow and OpenCV do not agree on how TIFF files have to be rotated.
        if file.format != "TIFF" or np.array_equal(
            colours[..., :3] >> 8, np.asarray(file.convert("RGB"))
        ):
            return colours
    raise InputError("not all of its 16 bits per channel can be read; convert it to an upright PNG")


def _eight_bit_colours(
    colours: npt.NDArray[np.uint16], bit_depth: BitDepth
) -> npt.NDArray[np.uint8]:
    """The same with 8 bits; transparency has 16 whatever the colours have."""
    eight = bit_depth.eight_bits(colours[..., :3])
    return np.concatenate([eight, (colours[..., 3:] >> 8).astype(np.uint8)], axis=2)
