"""Removing lens distortion: the image that a pinhole camera in the same place would have taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.pipeline.frame import Frame, Image

_MAX_ZOOM = 8.0


@dataclass(frozen=True, eq=False)
class _Undistortion:
    """Where each pixel of the pinhole image lies in the distorted one, and the pinhole's zoom."""

    columns: npt.NDArray[np.float32]  # (H, W)
    rows: npt.NDArray[np.float32]  # (H, W)
    zoom: float

    def remap(self, values: Any, nearest: bool) -> Any:
        import cv2

        method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return cv2.remap(values, self.columns, self.rows, method, borderMode=cv2.BORDER_REPLICATE)


def undistorted(frame: Frame) -> Frame:
    """The frame without lens distortion: same size, principal point, pose; image, depth, focal
    lengths follow.

    Focal lengths stay unless corners without content would show; then they grow until none does.
    Raises InputError when the coefficients cannot belong to a lens of this image size.
    """
    if frame.distortion is None or frame.intrinsics is None:
        return frame
    if frame.distortion.model == "plumb_bob" and not any(frame.distortion.coefficients):
        return frame  # a pinhole; an equidistant lens is none, whatever its coefficients
    k = frame.intrinsics
    camera = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    try:
        found = _undistortion(camera, frame.distortion, frame.size_hw)
    except InputError as error:
        raise InputError(f"{frame.label}: {error}") from error
    image: Image = found.remap(frame.image, nearest=False)
    depth = (
        None if frame.depth is None else found.remap(frame.depth.astype(np.float32), nearest=True)
    )
    fx, fy, cx, cy = camera
    intrinsics = intrinsics_matrix(found.zoom * fx, found.zoom * fy, cx, cy)
    prior = frame.prior_world_from_cam
    return Frame(image, frame.stamp_ns, intrinsics, None, prior, depth, frame.name)


@lru_cache(maxsize=8)  # a camera's map is the same for all its frames
def _undistortion(
    camera: tuple[float, float, float, float], distortion: Distortion, size_hw: tuple[int, int]
) -> _Undistortion:
    height, width = size_hw
    fx, fy, cx, cy = camera
    zoom = _smallest_zoom(camera, distortion, size_hw)
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    )
    rays = np.stack([(columns - cx) / (zoom * fx), (rows - cy) / (zoom * fy)], axis=-1)
    pixels = _distort(rays, distortion) * (fx, fy) + (cx, cy)
    return _Undistortion(pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32), zoom)


def _smallest_zoom(
    camera: tuple[float, float, float, float], distortion: Distortion, size_hw: tuple[int, int]
) -> float:
    """The least zoom, 1 or more, at which the border of the pinhole image has content, by
    bisection.
    """
    low = 1.0
    high = _MAX_ZOOM
    if _has_content(low, camera, distortion, size_hw):
        return low
    if not _has_content(high, camera, distortion, size_hw):
        raise InputError(
            f"distortion {distortion.model} {list(distortion.coefficients)} cannot belong to a"
            f" {size_hw[1]}x{size_hw[0]} image with these intrinsics; check the calibration and its"
            " order"
        )
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if _has_content(middle, camera, distortion, size_hw) else (middle, high)
        )
    return high


def _has_content(
    zoom: float,
    camera: tuple[float, float, float, float],
    distortion: Distortion,
    size_hw: tuple[int, int],
) -> bool:
    """Whether the border comes from inside the distorted image, and not from where the model folds
    over.
    """
    height, width = size_hw
    fx, fy, cx, cy = camera
    x = np.linspace(0, width - 1, 33)
    y = np.linspace(0, height - 1, 33)
    border = np.concatenate(
        [np.stack([x, 0 * x + edge], -1) for edge in (0.0, height - 1.0)]
        + [np.stack([0 * y + edge, y], -1) for edge in (0.0, width - 1.0)]
    )
    rays = (border - (cx, cy)) / (zoom * fx, zoom * fy)  # (132, 2)
    outwards = np.linspace(0, 1, 33)[:, None, None] * rays  # (33, 132, 2)
    distorted = _distort(outwards, distortion)
    pixels = distorted[-1] * (fx, fy) + (cx, cy)
    inside = (pixels >= -0.5).all() and (pixels <= (width - 0.5, height - 0.5)).all()
    rising = (np.diff(np.linalg.norm(distorted, axis=-1), axis=0) > 0).all()
    return bool(inside and rising)


def _distort(rays: Floats, distortion: Distortion) -> Floats:
    """Distorted normalized image points (..., 2) of undistorted ones (x/z, y/z)."""
    import cv2

    points = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1).reshape(-1, 1, 3)
    project: Any = cv2.fisheye.projectPoints if distortion.model == "equidistant" else None
    still = np.zeros(3)
    coefficients = np.array(distortion.coefficients, dtype=np.float64)
    if project is not None:
        result = project(points, still, still, np.eye(3), coefficients)[0]
    else:
        result = cv2.projectPoints(points, still, still, np.eye(3), coefficients)[0]
    return np.asarray(result, dtype=np.float64).reshape(rays.shape)
