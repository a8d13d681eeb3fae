"""Calibration files: our own JSON, OpenCV's and ROS's camera_info YAML, Kalibr's camchain,
RealSense's JSON.

Whatever a file says of the lens is used or refused by name: a lens with distortion never becomes a
pinhole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.datasets.calibration_lens import read_distortion
from vggt3_ros.datasets.calibration_names import DESCRIPTIVE, KNOWN, our_name
from vggt3_ros.datasets.calibration_values import number, numbers_of
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known, read_json, read_yaml
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.pipeline.bit_depth import BitDepth
from vggt3_ros.pipeline.frame import Image, read_image

_FOUR = ("fx", "fy", "cx", "cy")
_GROUPS = (
    "intrinsics",
    "projection_parameters",
    "camera",
    "camera_matrix",
    "distortion_coefficients",
)
_MIN_FOCAL_LENGTH = 0.05  # of the image's width; a fisheye that sees all round has 0.16
# of width and height; of an image half or twice as large it would be 1 or 0.25
_MIDDLE = (0.3, 0.7)


@dataclass(eq=False)
class Calibration:
    """Intrinsics (3, 3) float64 in pixels, distortion, None without, and the image size (W, H) that
    they are for.

    size_wh: None where the file does not say it, until the first image that fits tells it;
    size_from: that image.
    """

    intrinsics: Tensor
    distortion: Distortion | None
    size_wh: tuple[int, int] | None
    size_from: str = ""

    @property
    def text(self) -> str:
        """What was understood, for a person to check."""
        fx, fy, cx, cy = (
            float(self.intrinsics[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
        )
        camera = f"fx {fx:g} fy {fy:g} cx {cx:g} cy {cy:g}"
        if self.distortion is None:
            return f"{camera}, no distortion"
        return (
            f"{camera}, {self.distortion.model}"
            f" {' '.join(f'{c:g}' for c in self.distortion.coefficients)}"
        )

    def check_size(self, size_wh: tuple[int, int], image: str) -> None:
        """Raise InputError when an image of that size (W, H) cannot have this calibration.

        One calibration holds for one size: where the file says none, that of the first image that
        fits.
        """
        if self.size_wh is not None and size_wh != self.size_wh:
            size = f"{self.size_wh[0]} x {self.size_wh[1]}"
            whose = (
                f", as {self.size_from} has, for they name no width and height"
                if self.size_from
                else ""
            )
            raise InputError(
                f"{image} has {size_wh[0]} x {size_wh[1]} pixels, the intrinsics are for"
                f" {size}{whose}; give those of this image size"
            )
        if float(self.intrinsics[0, 0]) < _MIN_FOCAL_LENGTH * size_wh[0]:
            raise InputError(
                f"{image} is {size_wh[0]} pixels wide, and fx is {float(self.intrinsics[0, 0]):g};"
                " give fx, fy, cx, cy in pixels, not in millimetres nor as fractions of the image"
            )
        if self.size_wh is None:
            self._take_size(size_wh, image)

    def _take_size(self, size_wh: tuple[int, int], image: str) -> None:
        """Take the size of an image whose middle is about where the principal point is; else raise
        InputError.
        """
        cx = float(self.intrinsics[0, 2])
        cy = float(self.intrinsics[1, 2])
        low, high = _MIDDLE
        if not all(
            low <= centre / extent <= high for centre, extent in zip((cx, cy), size_wh, strict=True)
        ):
            raise InputError(
                f"{image} has {size_wh[0]} x {size_wh[1]} pixels, and the principal point {cx:g}"
                f" {cy:g} is far from its middle: the intrinsics seem to be for another size; if"
                " not, add width and height to them"
            )
        self.size_wh = size_wh
        self.size_from = image


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file: YAML where the name ends so, else JSON.

    Focal lengths and principal point are fx, fy, cx, cy, or a camera_matrix, or Kalibr's
    `intrinsics`. Distortion is k1, k2, p1, p2, ..., or a list of coefficients in OpenCV's order;
    without a model it is OpenCV's (plumb_bob). Raises InputError naming the file and the entry that
    is unknown, missing, contradictory or not supported.
    """
    data = read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _read_json(path)
    entries = _entries(_one_camera(data, path), path)
    _refuse_shifted_pixels(entries, path)
    return Calibration(
        _intrinsics(entries, path), read_distortion(entries, path), _size(entries, path)
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except InputError as error:
        if path.suffix.lower() == ".json" or not path.is_file():
            raise
        raise InputError(
            f"{error}; a calibration is JSON, or YAML if its name ends with .yaml"
        ) from error


def read_calibrated_image(
    path: Path, calibration: Calibration, bit_depth: BitDepth | None = None
) -> Image:
    """Pixels (H, W, 3) as stored; bit_depth as for `read_image`.

    Raises InputError when the calibration is for images of another size.
    """
    image = read_image(path, upright=False, bit_depth=bit_depth)
    calibration.check_size((image.shape[1], image.shape[0]), str(path))
    return image


def _one_camera(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The entries of the only camera of Kalibr's camchain (cam0, ...); other files as they are."""
    cameras = [key for key in data if re.fullmatch(r"cam\d+", key)]
    if not cameras:
        return data
    check_known(data, cameras, str(path))
    camera = data[cameras[0]]
    if len(cameras) > 1 or not isinstance(camera, dict):
        raise InputError(
            f"{path} holds {', '.join(cameras)}; give a file with the entries of one camera"
        )
    return camera


def _entries(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The entries that count, by our names. Raises InputError for unknown ones and for two that
    contradict.
    """
    entries: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    data = _ungrouped(data, path)
    check_known((key for key in data if our_name(key) not in KNOWN), KNOWN, str(path))
    for key, value in data.items():
        name = our_name(key)
        if name in DESCRIPTIVE:
            continue
        if name in entries and entries[name] != value:
            raise InputError(
                f"{path}: {spelt[name]!r} and {key!r} say the same, but differ; keep one of them"
            )
        entries[name] = value
        spelt[name] = key
    return entries


def _ungrouped(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The entries with those that stand in groups, such as VINS's projection_parameters, beside the
    others.
    """
    ungrouped: dict[str, Any] = {}
    for key, value in data.items():
        is_group = isinstance(value, dict) and our_name(key) in _GROUPS and "data" not in value
        for name, part in value.items() if is_group else [(key, value)]:
            if name in ungrouped and ungrouped[name] != part:
                raise InputError(
                    f"{path}: {name!r} is given twice, in {key!r} and elsewhere; keep one of them"
                )
            ungrouped[str(name)] = part
    return ungrouped


def _refuse_shifted_pixels(entries: dict[str, Any], path: Path) -> None:
    roi = entries.get("roi") or {}
    if isinstance(roi, dict) and _is_whole_image(roi, entries):
        roi = {}
    parts = (
        [value for value in roi.values() if not isinstance(value, bool)]
        if isinstance(roi, dict)
        else [roi]
    )
    binned = any(entries.get(name, 0) not in (0, 1) for name in ("binning_x", "binning_y"))
    if binned or any(parts):
        raise InputError(
            f"{path}: binning and regions of interest are not supported; give the images' own"
            " values"
        )
    skew = entries.get("skew", 0)
    if skew != 0:
        raise InputError(f"{path}: skew is {skew!r}, only 0 is supported; calibrate without skew")


def _is_whole_image(roi: dict[str, Any], entries: dict[str, Any]) -> bool:
    """Whether a region of interest begins in the corner and is as large as the image."""
    corner = not roi.get("x_offset") and not roi.get("y_offset")
    return corner and all(roi.get(side) == entries.get(side) for side in ("width", "height"))


def _intrinsics(entries: dict[str, Any], path: Path) -> Tensor:
    """Intrinsics (3, 3) out of the forms in which they are given, which have to agree."""
    found: dict[str, list[Any]] = {}
    if any(key in entries for key in _FOUR) or not entries.keys() & {"camera_matrix", "intrinsics"}:
        found["fx, fy, cx, cy"] = [entries.get(key) for key in _FOUR]
    if "camera_matrix" in entries:
        found["camera_matrix"] = _four_of_matrix(entries["camera_matrix"], path)
    if "intrinsics" in entries:
        found["intrinsics"] = numbers_of(
            entries["intrinsics"], 4, "intrinsics", "fx fy cx cy", path
        )
    values = [_pixels(found_as, numbers, path) for found_as, numbers in found.items()]
    if any(other != values[0] for other in values):
        raise InputError(f"{path}: {' and '.join(found)} contradict each other; keep one of them")
    return intrinsics_matrix(*values[0])


def _pixels(found_as: str, values: list[Any], path: Path) -> list[float]:
    numbers = []
    for key, value in zip(_FOUR, values, strict=True):
        pixels = number(value)
        if pixels is None or not 0 < pixels < 1e6:
            name = key if "," in found_as else f"{key} of {found_as}"
            raise InputError(f"{path}: {name} must be a positive number of pixels, got {value!r}")
        numbers.append(pixels)
    return numbers


def _four_of_matrix(value: Any, path: Path) -> list[Any]:
    """fx, fy, cx, cy of a 3x3 matrix in one of its forms; Open3D writes it column by column."""
    k = np.array(numbers_of(value, 9, "camera_matrix", "a 3x3 matrix", path)).reshape(3, 3)
    if not k.any():
        raise InputError(f"{path}: camera_matrix holds zeros alone: the camera was not calibrated")
    if k[0, 2] == k[1, 2] == 0 and k[2, :2].all():
        k = k.T
    if any((k[0, 1], k[1, 0], k[2, 0], k[2, 1])) or k[2, 2] != 1:
        raise InputError(f"{path}: camera_matrix must be fx 0 cx, 0 fy cy, 0 0 1, got {k.tolist()}")
    return [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])]


def _size(entries: dict[str, Any], path: Path) -> tuple[int, int] | None:
    """(W, H) of the images that a calibration is for; None where it does not say."""
    sizes: list[list[Any]] = []
    if "width" in entries or "height" in entries:
        sizes.append([entries.get("width"), entries.get("height")])
    if "resolution" in entries:
        sizes.append(numbers_of(entries["resolution"], 2, "resolution", "width and height", path))
    for size in sizes:
        for value in size:
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 < value < 1e6
                or value % 1
            ):
                raise InputError(
                    f"{path}: width and height must be whole numbers of pixels above 0, got"
                    f" {size[0]!r} and {size[1]!r}; correct them or remove both"
                )
    if any(size != sizes[0] for size in sizes):
        raise InputError(
            f"{path}: width, height and resolution contradict each other; keep one of them"
        )
    return (int(sizes[0][0]), int(sizes[0][1])) if sizes else None
