"""What a camera with a given lens sees on its path through a room, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.worlds.render import render_images
from vggt3_ros.worlds.room import RoomBatch

Image = NDArray[np.uint8]
# size of the pinhole image that a distorted one is taken from, in sizes of the latter
_MAX_SIZE = 3.0
_TOLERANCE = 0.01  # pixels that a distorted ray may miss its pixel by
_ITERATIONS = 60
_STEEPEST = 10.0  # x / z of a ray that is still tried


@dataclass(frozen=True)
class Lens:
    """A camera: intrinsics (3, 3) float64 in pixels, size (height, width), and its plumb_bob
    distortion, if any.
    """

    intrinsics: Tensor
    size_hw: tuple[int, int]
    distortion: Distortion | None = None

    @staticmethod
    def of(
        width: int, height: int, field_of_view: float, distortion: Distortion | None = None
    ) -> Lens:
        """Square pixels, `field_of_view` radians wide (without the distortion), principal point in
        the middle.

        Raises InputError for angles outside 0 to pi, and for sizes below 1.
        """
        if not 0 < field_of_view < math.pi or width < 1 or height < 1:
            raise InputError(
                "a lens needs a width and height of 1 or more and a field of view between 0 and pi"
                f" radians; got {width}x{height}, {field_of_view}"
            )
        focal = width / 2 / math.tan(field_of_view / 2)
        return Lens(
            intrinsics_matrix(focal, focal, width / 2, height / 2), (height, width), distortion
        )


@dataclass(frozen=True)
class _Pinhole:
    """The undistorted image that a distorted one is taken from: its camera, and where each pixel
    lies in it.
    """

    intrinsics: Tensor
    size_hw: tuple[int, int]
    columns: NDArray[np.float32]  # (H, W)
    rows: NDArray[np.float32]


def film(
    room: RoomBatch, world_from_cam: Tensor, lens: Lens, supersample: int = 2, threads: int = 1
) -> Iterator[Image]:
    """Images (H, W, 3) uint8 RGB at poses (F, 4, 4), in order, each rendered when its turn comes,
    by some threads.

    Raises InputError at once for a distortion that no image of the lens' size and field of view can
    have.
    """
    pinhole = _pinhole(lens)
    camera = lens if pinhole is None else pinhole

    def shoot(pose: Tensor) -> Image:
        image = render_images(
            room, pose[None, None], camera.intrinsics, *camera.size_hw, supersample
        )[0, 0]
        pixels = image.mul(255).round().byte().permute(1, 2, 0).cpu().contiguous().numpy()
        return pixels if pinhole is None else _distorted(pixels, pinhole)

    def shoot_all() -> Iterator[Image]:
        # images in the making, so that nobody who stops half-way waits for all the others
        ahead = 2 * threads
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(world_from_cam), ahead):
                yield from pool.map(shoot, world_from_cam[first : first + ahead])

    return shoot_all()


def _pinhole(lens: Lens) -> _Pinhole | None:
    """What has to be rendered for a lens that distorts; None for one that does not."""
    if lens.distortion is None:
        return None
    import cv2

    height, width = lens.size_hw
    matrix = lens.intrinsics.numpy()
    coefficients = np.array(lens.distortion.coefficients)
    focal = matrix[0, 0]
    centre = matrix[:2, 2]
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    )
    pixels = np.stack([columns, rows], -1).reshape(-1, 2)
    wanted = (pixels - centre) / focal
    rays = wanted.copy()
    for _ in range(_ITERATIONS):
        points = np.concatenate([rays, np.ones_like(rays[:, :1])], -1)
        seen = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[
            0
        ].reshape(-1, 2)
        error = seen - wanted
        if not focal * np.abs(error).max() > _TOLERANCE:
            break
        rays = np.clip(rays - error, -_STEEPEST, _STEEPEST)
    x, y = (focal * rays[:, axis].reshape(height, width) for axis in (0, 1))
    # One pixel around, for interpolation.
    left = math.floor(x.min()) - 1
    top = math.floor(y.min()) - 1
    size = (math.ceil(y.max()) + 2 - top, math.ceil(x.max()) + 2 - left)
    if (
        not focal * np.abs(error).max() <= _TOLERANCE
        or size[0] > _MAX_SIZE * height
        or size[1] > _MAX_SIZE * width
    ):
        raise InputError(
            f"distortion {list(lens.distortion.coefficients)} folds a {width}x{height} image of"
            " this field of view over, or needs far more of the room than it shows; use smaller"
            " coefficients or a narrower field of view"
        )
    intrinsics = intrinsics_matrix(focal, focal, float(-left), float(-top))
    return _Pinhole(intrinsics, size, (x - left).astype(np.float32), (y - top).astype(np.float32))


def _distorted(pixels: Image, pinhole: _Pinhole) -> Image:
    import cv2

    image = cv2.remap(pixels, pinhole.columns, pinhole.rows, cv2.INTER_LINEAR)
    return np.asarray(image, dtype=np.uint8)
