"""Opening image files with Pillow, whichever version it is and whatever is wrong with the file."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.jpeg import is_jpeg, jpeg_length

_MAX_PIXELS = 1_000_000_000  # of one image; more is a mistake or an attack
_ORIENTATION = 0x0112  # of EXIF and TIFF
_INVERSE = {6: 8, 8: 6}  # of orientations; the others are their own
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_CONVERT = "convert it to JPEG or PNG"
_RAW_SUFFIXES = (
    ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".dng", ".raf", ".orf", ".rw2",
    ".pef", ".srw",
    ".x3f", ".3fr", ".iiq",
)  # fmt: skip
# Not even tried: Pillow takes the small preview inside a RAW file for the photograph.
_NOT_READ = {
    **dict.fromkeys(_RAW_SUFFIXES, f"raw sensor data is not read; {_CONVERT}"),
    ".gif": (
        f"a GIF has 256 colours at most, too few to find a place by; {_CONVERT} from the original"
    ),
}
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
OTHER_SUFFIXES = (  # of images that are not read everywhere, or nowhere
    *_NOT_READ, *HEIC_SUFFIXES, ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".psd", ".exr", ".hdr",
    ".pfm", ".bayer",
)  # fmt: skip


@contextlib.contextmanager
def opened_image(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The Pillow image of a file, its header read and its pixels not yet.

    Raises InputError naming the file and the reason when it cannot be opened, and for whatever
    Pillow raises while the caller decodes and converts it: that is more than it documents, from its
    readers of metadata above all.
    """
    from PIL import Image as Pillow

    name = os.fspath(path)
    try:
        _check_kind(Path(name))
        with _UNLIMITED, Pillow.open(path) as file:
            _check_size(file.size)
            _choose_page(file)
            yield file
    except InputError as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"there is no image file {name}; check the path") from error
    except MemoryError:
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise InputError(
            f"{name} cannot be read as an image: {why}; leave it out or copy it again"
        ) from error


def orientation(file: Any) -> int:
    """How an image that is not yet decoded has to be rotated to be upright: 1 to 8 as EXIF numbers
    it; 1 if untold.
    """
    try:
        value = file.getexif().get(_ORIENTATION, 1)
    # damaged metadata, which Pillow meets with whatever exception; the pixels may be fine
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def needed_rotation(file: Any, upright: bool) -> int:
    """The orientation that `rotated` needs to make the decoded image upright, or as it is stored.

    Pillow itself sets TIFF files upright, and no others, when it decodes them.
    """
    stored = orientation(file)
    if file.format == "TIFF":
        return 1 if upright else _INVERSE.get(stored, stored)
    return stored if upright else 1


def rotated(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) set upright that has this EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def check_whole(file: Any, path: str | os.PathLike[str]) -> None:
    """Raise InputError for a JPEG file that is cut off and goes on with another image: decoders mix
    the two.

    One that lacks nothing but its end marker, as some cameras write them, is whole.
    """
    if file.format not in ("JPEG", "MPO"):
        return
    data = Path(path).read_bytes()
    if is_jpeg(data) and jpeg_length(data + b"\xff\xd9") is None:
        raise InputError(
            "it is a damaged JPEG, or one that is cut off with another one behind it; copy it again"
        )


def _check_kind(path: Path) -> None:
    """Raise InputError for a file that is known not to be readable, by its suffix or its first
    bytes.
    """
    from PIL import Image as Pillow

    reason = _NOT_READ.get(path.suffix.lower())
    if reason is not None:
        raise InputError(reason)
    with path.open("rb") as file:
        start = file.read(32)
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if not start:
        raise InputError("the file is empty; leave it out or copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise InputError("it only stands for a file that Git LFS keeps; run git lfs pull")
    if brand in _AVIF_BRANDS and ".avif" not in Pillow.registered_extensions():
        raise InputError(
            f"it is an AVIF file, which this version of Pillow does not read; {_CONVERT}"
        )
    if (brand in _HEIC_BRANDS or path.suffix.lower() in HEIC_SUFFIXES) and not _reads_heic():
        raise InputError(
            "it is a HEIC file, which needs a package of its own: pip install pillow-heif, or"
            f" {_CONVERT}"
        )


@functools.cache
def _reads_heic() -> bool:
    """Whether Pillow reads HEIC from now on: it does where the package pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _choose_page(file: Any) -> None:
    """Go to the largest image of a file that holds several. Raises InputError when several are as
    large.
    """
    # a phone's MPO: the photograph comes first
    count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
    if count == 1:
        return
    sizes = []
    if file.format == "TIFF":
        for page in range(count):
            file.seek(page)
            sizes.append(file.size)
    largest = max(sizes, default=None, key=lambda size: size[0] * size[1])
    if largest is None or sizes.count(largest) > 1:
        raise InputError(
            f"it holds {count} images, and which one is meant is unknown; save each as a file of"
            " its own"
        )
    file.seek(sizes.index(largest))
    _check_size(file.size)


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > _MAX_PIXELS:
        raise InputError(
            f"{width}x{height} pixels are more than {_MAX_PIXELS / 1e9:.0f} billion; make it"
            " smaller"
        )


class _Unlimited:
    """Pillow without its limit of pixels, which lies below what cameras have, and without its
    warnings.

    Both are global: they are set when the first thread begins to read, and set back when the last
    one has finished.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        from PIL import Image as Pillow

        with self._lock:
            if self._readers == 0:
                self._stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._stack.callback(setattr, Pillow, "MAX_IMAGE_PIXELS", Pillow.MAX_IMAGE_PIXELS)
                Pillow.MAX_IMAGE_PIXELS = None
            self._readers += 1

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._stack.close()


_UNLIMITED = _Unlimited()
