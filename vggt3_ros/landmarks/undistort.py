"""Pixels as a camera without lens distortion would have them."""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.camera import Distortion


def undistorted_pixels(pixels: Floats, intrinsics: Floats, distortion: Distortion) -> Floats:
    """Pixels (n, 2) of an image with lens distortion where a camera with the same intrinsics (3, 3)
    and none sees the same.
    """
    import cv2

    coefficients = np.array(distortion.coefficients)
    points = pixels.reshape(-1, 1, 2)
    if distortion.model == "equidistant":
        undistorted = cv2.fisheye.undistortPoints(points, intrinsics, coefficients, P=intrinsics)
    else:
        undistorted = cv2.undistortPoints(points, intrinsics, coefficients, P=intrinsics)
    return np.asarray(undistorted, dtype=np.float64).reshape(-1, 2)
