"""What calibration files of OpenCV, ROS, Kalibr, RealSense and others call their entries, and their
lens models.
"""

from __future__ import annotations

import re
from typing import Literal

# Our name of an entry, and the other names that it goes by.
_SPELLINGS = {
    "fx": ("fl_x", "f_x", "focal_x"),
    "fy": ("fl_y", "f_y", "focal_y"),
    "cx": ("ppx", "c_x", "principal_x"),
    "cy": ("ppy", "c_y", "principal_y"),
    "width": ("w", "image_width", "img_width"),
    "height": ("h", "image_height", "img_height"),
    "resolution": (),
    "camera_matrix": ("k", "mtx", "cam_matrix", "intrinsic_matrix", "intrinsics_matrix"),
    "intrinsics": (),
    "skew": ("s",),
    "distortion": (),
    "distortion_coefficients": (
        "distortion_coeffs", "dist_coeffs", "dist_coefs", "dist_coeff", "dist", "d", "coeffs",
        "coefficients",
        "distortion_parameters", "distortion_params",
    ),
    "distortion_model": ("distortion_type",),
    "camera_model": ("model", "model_type", "camera_type"),
    "fisheye_model": (),
    **dict.fromkeys(("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"), ()),
    "binning_x": (),
    "binning_y": (),
    "roi": (),
}  # fmt: skip
# Entries that describe a calibration, or belong to rectified images and to other sensors: they
# change nothing here.
DESCRIPTIVE = frozenset((
    "name", "camera_name", "camera_id", "id", "serial", "serial_number", "comment", "note", "notes",
    "source", "date",
    "header", "frame_id", "rectification_matrix", "r", "projection_matrix", "p", "calibration_time",
    "nframes",
    "board_width", "board_height", "square_size", "aspect_ratio", "fix_aspect_ratio", "flags",
    "rms", "ret",
    "reprojection_error", "avg_reprojection_error", "per_view_reprojection_errors",
    "extrinsic_parameters",
    "image_points", "grid_points", "rostopic", "cam_overlaps", "timeshift_cam_imu", "t_cam_imu",
    "t_cn_cnm1", "t_bs",
    "sensor_type", "rate_hz",
))  # fmt: skip
_OUR_NAME = {other: name for name, others in _SPELLINGS.items() for other in (name, *others)}
KNOWN = (*_OUR_NAME, *DESCRIPTIVE)

_LENSES: dict[str, Literal["plumb_bob", "equidistant", "none"]] = {
    **dict.fromkeys(
        ("plumbbob", "radtan", "radialtangential", "brownconrady", "modifiedbrownconrady", "brown",
        "opencv",
         "fullopencv", "rationalpolynomial", "rational", "radial", "simpleradial"), "plumb_bob",
    ),
    **dict.fromkeys(
        ("equidistant", "equi", "fisheye", "opencvfisheye", "kannalabrandt", "kannalabrandt4",
        "kannalabrandt8", "kb4"),
        "equidistant",
    ),
    **dict.fromkeys(("", "none", "pinhole", "simplepinhole", "perspective"), "none"),
}  # fmt: skip


def our_name(key: str) -> str:
    """Our name of an entry, however it is written (cameraMatrix, Camera_Matrix, K); unknown ones in
    lower case.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    name = re.sub(r"\W+", "_", words).lower().strip("_")
    # ORB-SLAM writes Camera.fx
    name = re.sub(r"^camera1?_(?=[fc][xy]$|[kp]\d$|width$|height$)", "", name)
    return _OUR_NAME.get(name, name)


def lens_of_model(model: str) -> Literal["plumb_bob", "equidistant", "none"] | None:
    """The distortion model that a name of one means; "none" for pinholes, None for a name that is
    unknown here.
    """
    return _LENSES.get(re.sub(r"[\W_]+", "", model.lower().removeprefix("distortion.")))
