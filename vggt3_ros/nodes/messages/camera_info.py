"""Calibrations from sensor_msgs/CameraInfo."""

from __future__ import annotations

import math

from sensor_msgs.msg import CameraInfo
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix

_RAW_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
_RATIONAL = 8  # coefficients; OpenCV's further ones (thin prism, tilt) are not supported


def camera_from_info(
    info: CameraInfo, size_hw: tuple[int, int], rectified: bool = False
) -> tuple[Tensor, Distortion | None]:
    """Intrinsics (3, 3) float64 in pixels of the image of `size_hw`, and its distortion, None
    without any.

    Of raw images K and D count; of `rectified` ones, as image_proc makes them, P alone. Both are
    for the full sensor: the region of interest shifts the principal point, binning b joins b x b
    pixels into one whose centre is theirs. Raises InputError when the camera is not calibrated, the
    image has another size than the calibration says, or the numbers cannot belong to a camera.
    """
    fx, fy, cx, cy = _full_sensor(info, rectified)
    _check_size(info, size_hw)
    binning_x = max(info.binning_x, 1)
    binning_y = max(info.binning_y, 1)
    cx = (cx - info.roi.x_offset + 0.5) / binning_x - 0.5  # pixel centres at whole numbers
    cy = (cy - info.roi.y_offset + 0.5) / binning_y - 0.5
    return intrinsics_matrix(fx / binning_x, fy / binning_y, cx, cy), (
        None if rectified else _distortion(info)
    )


def _full_sensor(info: CameraInfo, rectified: bool) -> tuple[float, float, float, float]:
    """Focal lengths and principal point fx fy cx cy of K (3x3) or P (3x4), before region of
    interest and binning.
    """
    name, values, row = ("P", info.p, 4) if rectified else ("K", info.k, 3)
    numbers = [float(value) for value in values]
    fx, skew, cx = numbers[:3]
    fy, cy = numbers[row + 1 : row + 3]
    if fx == 0.0:
        instead = ", or set rectified to false, if the images are raw" if rectified else ""
        raise InputError(
            f"camera_info says that the camera is uncalibrated ({name} is zero); expected a"
            " calibration: run camera_calibration and give its result to the driver, or switch"
            f" camera_info off{instead}"
        )
    if not (all(map(math.isfinite, (fx, fy, cx, cy))) and fx > 0 and fy > 0 and skew == 0.0):
        raise InputError(
            f"camera_info has {name} = {numbers}; expected fx 0 cx 0 fy cy 0 0 1 with positive"
            f" focal lengths{' (and a fourth column)' if rectified else ''}; calibrate the camera"
            " again"
        )
    return fx, fy, cx, cy


def _check_size(info: CameraInfo, size_hw: tuple[int, int]) -> None:
    """Raise InputError unless the image has the size of the calibration, after region of interest
    and binning.
    """
    width = (info.roi.width or info.width) // max(info.binning_x, 1)
    height = (info.roi.height or info.height) // max(info.binning_y, 1)
    if (height, width) != size_hw:
        full = (info.width, info.height) == (width, height)
        origin = (
            ""
            if full
            else f" (sensor {info.width}x{info.height} after region of interest and binning)"
        )
        raise InputError(
            f"camera_info is for images of {width}x{height} pixels{origin}, the image has"
            f" {size_hw[1]}x{size_hw[0]}; remap camera_info to the calibration of this very image"
            " topic"
        )


def _distortion(info: CameraInfo) -> Distortion | None:
    coefficients = tuple(float(value) for value in info.d)
    if not all(map(math.isfinite, coefficients)):
        raise InputError(
            f"camera_info has D = {list(coefficients)}; expected finite numbers; calibrate again"
        )
    if info.distortion_model == "equidistant" and coefficients:
        # four zeros as well: it is no pinhole even then
        return Distortion("equidistant", coefficients)
    if not any(coefficients):
        return None
    if info.distortion_model not in _RAW_MODELS or any(coefficients[_RATIONAL:]):
        raise InputError(
            f"camera_info has the distortion model {info.distortion_model!r} with"
            f" {len(coefficients)} coefficients; expected one of {', '.join(_RAW_MODELS)} with at"
            f" most {_RATIONAL}: rectify the images before (image_proc), remap image to them and"
            " set rectified to true, or calibrate with one of these models"
        )
    return Distortion("plumb_bob", coefficients[:_RATIONAL])
