"""One image of a camera, with what is known about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import check_pose
from vggt3_ros.pipeline.bit_depth import BitDepth
from vggt3_ros.pipeline.deep_files import eight_bit_image, loses_bits
from vggt3_ros.pipeline.image_file import check_whole, needed_rotation, opened_image, rotated

Image = npt.NDArray[np.uint8]
_WHITE = 255
_BLACK_LEVEL = 12  # of 255: sensor noise under a lens cap stays below


@dataclass(frozen=True, eq=False)
class Frame:
    """An image (H, W, 3) uint8 RGB with its stamp, calibration, prior pose and depth, each as far
    as known.

    intrinsics (3, 3) in pixels of this image, pixel centres at whole numbers. distortion needs
    intrinsics. prior_world_from_cam (4, 4): the camera's pose in metres from odometry or TF, OpenCV
    camera axes; it may hold NaN (a filter that diverged), then whoever uses it reports the frame as
    skipped. depth (H, W) float32, metres along z, 0 or NaN where unknown. Raises InputError when
    something cannot be used.
    """

    image: Image
    stamp_ns: int = 0
    intrinsics: Tensor | None = None
    distortion: Distortion | None = None
    prior_world_from_cam: Tensor | None = None
    depth: npt.NDArray[np.float32] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        shape = np.shape(self.image)
        kind = getattr(self.image, "dtype", type(self.image).__name__)
        if len(shape) != 3 or shape[2] != 3 or kind != np.uint8 or 0 in shape:
            raise InputError(
                f"{self.label}: an image must be (H, W, 3) uint8 RGB; got {shape} {kind}"
            )
        for name, size in (("intrinsics", (3, 3)), ("prior_world_from_cam", (4, 4))):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _matrix(value, size, f"{self.label}: {name}"))
        if self.intrinsics is not None:
            _check_intrinsics(self.intrinsics, shape, self.label)
        elif self.distortion is not None:
            raise InputError(
                f"{self.label}: distortion is given without intrinsics; give both or neither"
            )
        if self.depth is not None and np.shape(self.depth) != shape[:2]:
            raise InputError(
                f"{self.label}: depth must be {shape[:2]}, got {np.shape(self.depth)}; resize it"
            )

    @property
    def label(self) -> str:
        """How messages call the frame."""
        return self.name or f"frame at {self.stamp_ns} ns"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def is_black(self) -> bool:
        """Whether nothing can be seen: lens cap, or no light. A few hot pixels do not count."""
        return bool(np.percentile(self.image[::4, ::4], 99) < _BLACK_LEVEL)

    @property
    def prior_problem(self) -> str | None:
        """Why the prior pose cannot be used; None when it can, or when there is none."""
        if self.prior_world_from_cam is None:
            return None
        try:
            check_pose(self.prior_world_from_cam, "prior pose")
        except InputError as error:
            return str(error)
        return None

    @staticmethod
    def from_file(
        path: str | os.PathLike[str],
        *,
        stamp_ns: int = 0,
        intrinsics: Tensor | None = None,
        distortion: Distortion | None = None,
        prior_world_from_cam: Tensor | None = None,
        depth: npt.NDArray[np.float32] | None = None,
        name: str = "",
        bit_depth: BitDepth | None = None,
    ) -> Frame:
        """Read an image file; grey, palette, 16-bit and transparent images become RGB.

        A rotated photograph (EXIF) is set upright unless intrinsics are given: those belong to the
        pixels as stored. bit_depth as for `read_image`. Raises InputError naming the file when it
        is missing, truncated or no image.
        """
        image = read_image(path, intrinsics is None, bit_depth)
        name = name or os.path.basename(path)
        return Frame(image, stamp_ns, intrinsics, distortion, prior_world_from_cam, depth, name)


def read_image(
    path: str | os.PathLike[str], upright: bool = True, bit_depth: BitDepth | None = None
) -> Image:
    """The pixels of an image file as (H, W, 3) uint8 RGB.

    bit_depth says, and remembers over a sequence, what white is in 16 bits; without it this image
    alone does. Raises InputError naming the file and the reason.
    """
    with opened_image(path) as file:
        is_deep = loses_bits(file)
        orientation = needed_rotation(file, upright)
        image = eight_bit_image(file, path, is_deep, bit_depth or BitDepth())
        check_whole(file, path)
        return rotated(_to_rgb(image), orientation)


def _to_rgb(image: Any) -> Image:
    """Pillow image of 8 bits per channel, or floats, to RGB; transparent pixels over white.

    Floats that are no numbers, or infinite, become black.
    """
    from PIL import Image as Pillow

    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        grey = np.clip(values * (_WHITE / _white_of_floats(values)) + 0.5, 0, _WHITE).astype(
            np.uint8
        )
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, (_WHITE,) * 4), image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _white_of_floats(values: npt.NDArray[np.float64]) -> float:
    """What white is in an image of floats: the least usual range that holds all of them."""
    return next((white for white in (1.0, 255.0) if values.max(initial=0) <= white), 65535.0)


def _matrix(value: Any, size: tuple[int, int], name: str) -> Tensor:
    try:
        matrix = torch.as_tensor(value, dtype=torch.float64).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} must be a {size[0]}x{size[1]} matrix of numbers; got {value!r}"
        ) from error
    if tuple(matrix.shape) != size:
        raise InputError(f"{name} must be {size[0]}x{size[1]}; got {tuple(matrix.shape)}")
    return matrix


def _check_intrinsics(intrinsics: Tensor, shape: tuple[int, ...], label: str) -> None:
    fx, fy, cx, cy = (float(intrinsics[r, c]) for r, c in ((0, 0), (1, 1), (0, 2), (1, 2)))
    plain = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    inside = 0 < cx < shape[1] and 0 < cy < shape[0]
    if not (torch.equal(intrinsics, plain) and 0 < fx < 1e6 and 0 < fy < 1e6 and inside):
        raise InputError(
            f"{label}: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive focal"
            f" lengths and a principal point inside the {shape[1]}x{shape[0]} image; got"
            f" {intrinsics.tolist()}"
        )
