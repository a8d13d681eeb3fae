"""What a user knows of the cameras beforehand: the files of --poses and --intrinsics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.plain import read_intrinsics
from vggt3_ros.evaluation.text_files import pose_from_numbers, read_depth_png, read_json, read_rows
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.pipeline.frame import Frame

_DEPTH_PER_METRE = 1000.0


@dataclass(frozen=True)
class KnownCameras:
    """Calibration shared by all images, the image size (W, H) that it belongs to, and poses by frame number.

    priors: world_from_cam (4, 4) float64 in metres; NaN where a tracker was lost. depth: folder of depth images, 16-bit
    png in millimetres, each named like its image.
    """

    intrinsics: Tensor | None = None
    distortion: Distortion | None = None
    size_wh: tuple[int, int] | None = None
    priors: dict[int, Tensor] = field(default_factory=dict)
    depth: Path | None = None

    @staticmethod
    def from_files(poses: Path | None, intrinsics: Path | None, depth: Path | None = None) -> KnownCameras:
        """Read the files that are given. Raises InputError naming file and line, or a depth folder that is none."""
        priors = {} if poses is None else _read_poses(poses)
        if depth is not None and not depth.is_dir():
            raise InputError(f"--depth {depth}: there is no such folder; give one with a png for each image")
        if intrinsics is None:
            return KnownCameras(priors=priors, depth=depth)
        size_wh = _image_size(read_json(intrinsics), intrinsics)
        return KnownCameras(*read_intrinsics(intrinsics), size_wh, priors, depth)

    def frame(self, image: np.ndarray, position: int, name: str, stamp_ns: int = 0) -> Frame:
        """The frame of an image (H, W, 3) with what is known of it.

        A pose belongs to the image whose name is its number (7 to 000007.png); where the name is no number, the
        image's position in the list counts. Raises InputError when the calibration is for images of another size.
        """
        size_wh = (image.shape[1], image.shape[0])
        if self.size_wh is not None and size_wh != self.size_wh:
            raise InputError(
                f"{name} has {size_wh[0]} x {size_wh[1]} pixels, the intrinsics are for "
                f"{self.size_wh[0]} x {self.size_wh[1]}; give those of this image size"
            )
        stem = Path(name).stem
        return Frame(
            image=image,
            stamp_ns=stamp_ns,
            intrinsics=self.intrinsics,
            distortion=self.distortion,
            prior_world_from_cam=self.priors.get(int(stem) if stem.isdecimal() else position),
            depth=self._read_depth(stem),
            name=name,
        )

    def _read_depth(self, stem: str) -> np.ndarray | None:
        """The depth image (H, W) in metres that belongs to an image, None where there is none."""
        path = None if self.depth is None else self.depth / f"{stem}.png"
        return read_depth_png(path, _DEPTH_PER_METRE) if path is not None and path.exists() else None


def _image_size(data: dict[str, Any], path: Path) -> tuple[int, int] | None:
    """(W, H) of the images that a calibration is for; None where it does not say."""
    if "width" not in data and "height" not in data:
        return None
    width, height = data.get("width"), data.get("height")
    for value in (width, height):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6 or value % 1:
            raise InputError(
                f"{path}: width and height must be whole numbers of pixels above 0, got {width!r} and {height!r}; "
                "correct them or remove both"
            )
    return int(width), int(height)  # type: ignore[arg-type]


def _read_poses(path: Path) -> dict[int, Tensor]:
    """Rows of the plain poses.txt: frame number, then 16 row-major numbers. A pose with NaN is kept as such."""
    priors: dict[int, Tensor] = {}
    for where, fields in read_rows(path, 17, "frame number and 16 numbers of a 4x4 camera-to-world pose"):
        if not fields[0].isdecimal():
            raise InputError(f"{where}: {fields[0]!r} is not a frame number; each row begins with one, from 0")
        number = int(fields[0])
        if number in priors:
            raise InputError(f"{where}: frame {number} has two poses; keep one of them")
        lost = any(field.lower().lstrip("+-") == "nan" for field in fields[1:])
        priors[number] = (
            torch.full((4, 4), torch.nan, dtype=torch.float64) if lost else pose_from_numbers(fields[1:], where)
        )
    return priors
