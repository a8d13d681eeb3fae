"""The files of a COLMAP model as they are (https://colmap.github.io/format.html): text and binary
read, binary written.

Of a model that is read, the points, the images' pixels, and the rigs and frames of newer versions
are left aside: images repeat the poses. Written models have no rigs and frames; COLMAP then makes
one for each image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.landmarks.colmap_records import MODELS, ColmapCamera, ColmapImage, ColmapPoint
from vggt3_ros.landmarks.colmap_text import read_text_cameras, read_text_images

_PIXEL = np.dtype([("xy", "<f8", 2), ("point", "<i8")])  # of an image's list
FILES = (
    "cameras.bin",
    "images.bin",
    "points3D.bin",
    "cameras.txt",
    "images.txt",
    "points3D.txt",
)


def read_cameras_and_images(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Cameras by number, and images. Raises InputError naming the file that is missing or
    damaged.
    """
    for suffix, read_cameras, read_images in (
        (".bin", _binary_cameras, _binary_images),
        (".txt", read_text_cameras, read_text_images),
    ):
        if not (folder / f"images{suffix}").is_file():
            continue
        path = folder / f"cameras{suffix}"
        try:
            cameras = read_cameras(path)
            path = folder / f"images{suffix}"
            return cameras, read_images(path)
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}; a COLMAP model has cameras and images"
            ) from error
        except (ValueError, struct.error) as error:
            raise InputError(
                f"{path} is not as COLMAP writes it ({error}); export the model again"
            ) from error
    raise InputError(
        f"{folder} holds no COLMAP model; give a folder with images.bin or images.txt, such as"
        " sparse/0"
    )


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    names = list(MODELS)
    with path.open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            number, model, width, height = _unpack(file, "IiQQ")
            if not 0 <= model < len(names):
                raise InputError(
                    f"{path}: camera model number {model} is not supported; use OPENCV or"
                    " OPENCV_FISHEYE"
                )
            parameters = _unpack(file, f"{MODELS[names[model]]}d")
            cameras[number] = ColmapCamera(names[model], (width, height), parameters)
    return cameras


def _binary_images(path: Path) -> list[ColmapImage]:
    images = []
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            _, *values, camera = _unpack(file, "I7dI")
            name = bytearray()
            while (letter := _unpack(file, "c")[0]) != b"\0":
                name += letter
            images.append(ColmapImage(name.decode(), camera, tuple(values[:4]), tuple(values[4:])))
            end = file.tell() + 8 + _PIXEL.itemsize * _unpack(file, "Q")[0]
            if end > size:
                raise ValueError("it ends too early")
            file.seek(end)
    return images


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    size = struct.calcsize("<" + layout)
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends too early")
    return struct.unpack("<" + layout, data)


def write_cameras_and_images(
    folder: Path,
    cameras: Mapping[int, ColmapCamera],
    images: Sequence[ColmapImage],
    observations: Sequence[tuple[Floats, NDArray[np.int32]]],
) -> None:
    """Write cameras.bin and images.bin. observations: of each image, pixels (n, 2) and numbers (n,)
    of the points.
    """
    models = list(MODELS)
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, camera in cameras.items():
            file.write(struct.pack("<IiQQ", number, models.index(camera.model), *camera.size_wh))
            file.write(struct.pack(f"<{len(camera.parameters)}d", *camera.parameters))
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(images)))
        for number, (image, (pixels, points)) in enumerate(
            zip(images, observations, strict=True), start=1
        ):
            file.write(
                struct.pack("<I7dI", number, *image.quaternion, *image.translation, image.camera)
            )
            file.write(image.name.encode() + b"\0" + struct.pack("<Q", len(pixels)))
            rows = np.zeros(len(pixels), _PIXEL)
            rows["xy"] = pixels
            rows["point"] = points
            file.write(rows.tobytes())


def write_points(folder: Path, points: Iterable[ColmapPoint]) -> None:
    """Write points3D.bin, in an existing folder; an OSError if that fails."""
    records = []
    for point in points:
        place = (*point.position, *point.color, point.error)
        begin = struct.pack("<Q3d3BdQ", point.number, *place, len(point.track))
        records.append(begin + point.track.astype("<u4").tobytes())
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", len(records)) + b"".join(records))
