"""Calibration files as OpenCV, ROS, Kalibr, RealSense and people write them: understood, or refused
by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vggt3_ros.datasets.calibration import read_calibration
from vggt3_ros.errors import InputError

FOUR = {"fx": 500, "fy": 510, "cx": 320, "cy": 240}
MATRIX = [500, 0, 320, 0, 510, 240, 0, 0, 1]
ROWS = [MATRIX[:3], MATRIX[3:6], MATRIX[6:]]
D5 = [-0.3, 0.1, 0.001, 0.002, 0.01]
FLAT = dict(zip(("k1", "k2", "p1", "p2", "k3"), D5, strict=True))
PLUMB_BOB = ("plumb_bob", tuple(D5))
FISHEYE = ("equidistant", (0.1, 0.2, 0.3, 0.4))

ROS = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500, 0, 320, 0, 510, 240, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3, 0.1, 1e-3, 2e-3, 1e-2]
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [400, 0, 300, 0, 0, 400, 200, 0, 0, 0, 1, 0]}
"""
ECHO = """\
header: {stamp: {sec: 1, nanosec: 0}, frame_id: camera}
height: 480
width: 640
distortion_model: plumb_bob
d: [-0.3, 0.1, 0.001, 0.002, 0.01]
k: [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [400.0, 0.0, 300.0, 0.0, 0.0, 400.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
binning_y: 0
roi: {x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}
---
"""
OPENCV = """\
%YAML:1.0
---
calibration_time: "today"
image_Width: 640
image_Height: 480
flags: 0
Camera_Matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 500., 0., 320., 0., 510., 240., 0., 0., 1. ]
Distortion_Coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -0.3, 0.1, 0.001, 0.002, 0.01 ]
avg_reprojection_error: 0.2
"""
KALIBR = """\
cam0:
  camera_model: pinhole
  intrinsics: [500, 510, 320, 240]
  distortion_model: equidistant
  distortion_coeffs: [0.1, 0.2, 0.3, 0.4]
  resolution: [640, 480]
  rostopic: /cam0/image_raw
"""


def calibration_of(
    tmp_path: Path, content: str | dict[str, Any]
) -> tuple[list[float], Any, tuple[int, int] | None]:
    """fx, fy, cx, cy, model and coefficients of the lens (None without), and size that are read."""
    path = tmp_path / ("camera.yaml" if isinstance(content, str) else "camera.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    read = read_calibration(path)
    k = read.intrinsics
    lens = (
        None if read.distortion is None else (read.distortion.model, read.distortion.coefficients)
    )
    return [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])], lens, read.size_wh


@pytest.mark.parametrize(
    "lens",
    [
        FLAT,
        {"distortion_coefficients": D5},
        {"dist_coeffs": [D5]},
        {"distCoeffs": [[c] for c in D5], "distortion_model": "plumb_bob"},
        {"D": D5, "distortion_model": "radtan"},
        {"distortion": D5},
        {"distortion": {"model": "plumb_bob", "coefficients": D5}},
        {"distortion": FLAT, "camera_model": "OPENCV"},
        {"model_type": "PINHOLE", "distortion_parameters": FLAT},
        {"coeffs": D5, "model": "distortion.brown_conrady"},
        {"distortion_coefficients": {"rows": 1, "cols": 5, "data": D5}},
        {**FLAT, "distortion_coefficients": D5},
        {"distortion_coefficients": [*D5, 0, 0, 0, 0, 0, 0, 0, 0, 0]},
    ],
)
def test_distortion_is_never_lost(lens: dict[str, Any], tmp_path: Path) -> None:
    _, (model, coefficients), _ = calibration_of(tmp_path, FOUR | lens)
    assert (
        model == "plumb_bob" and coefficients[:5] == pytest.approx(D5) and not any(coefficients[5:])
    )


@pytest.mark.parametrize(
    "lens",
    [
        {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4, "distortion_model": "equidistant"},
        {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4, "camera_model": "OPENCV_FISHEYE"},
        {"distortion_coefficients": [0.1, 0.2, 0.3, 0.4], "distortion_model": "fisheye"},
        {"D": [0.1, 0.2, 0.3, 0.4], "fisheye_model": 1},
        {"distortion": {"model": "equidistant", "k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}},
    ],
)
def test_a_fisheye_stays_one(lens: dict[str, Any], tmp_path: Path) -> None:
    assert calibration_of(tmp_path, FOUR | lens)[1] == FISHEYE


@pytest.mark.parametrize(
    "camera",
    [
        {"camera_matrix": ROWS},
        {"K": MATRIX},
        {"mtx": ROWS, "ret": 0.2},
        {"cameraMatrix": {"rows": 3, "cols": 3, "dt": "d", "data": MATRIX}},
        {"intrinsic_matrix": [500, 0, 0, 0, 510, 0, 320, 240, 1]},
        {"intrinsics": [500, 510, 320, 240]},
        {"fl_x": 500, "fl_y": 510, "cx": 320, "cy": 240},
        {"intrinsics": {"fx": 500, "fy": 510, "ppx": 320, "ppy": 240}},
        {
            "model_type": "PINHOLE",
            "projection_parameters": FOUR,
            "distortion_parameters": {"k1": 0, "p1": 0.0},
        },
        {
            "fx": 500,
            "fy": 510,
            "ppx": 320,
            "ppy": 240,
            "model": "Inverse Brown Conrady",
            "coeffs": [0, 0, 0, 0, 0],
        },
        {"Camera.fx": 500, "Camera.fy": 510, "Camera.cx": 320, "Camera.cy": 240},
        {
            **FOUR,
            "camera_matrix": ROWS,
            "k1": 0,
            "distortion": "none (pinhole)",
            "source": "somewhere",
        },
    ],
)
def test_intrinsics_are_read_in_all_their_spellings(camera: dict[str, Any], tmp_path: Path) -> None:
    assert calibration_of(tmp_path, camera) == ([500, 510, 320, 240], None, None)


@pytest.mark.parametrize(
    ("text", "lens"), [(ROS, PLUMB_BOB), (ECHO, PLUMB_BOB), (OPENCV, PLUMB_BOB), (KALIBR, FISHEYE)],
    ids=["camera_info file", "camera_info message", "OpenCV", "Kalibr"],
)  # fmt: skip
def test_files_of_calibration_tools_are_read(text: str, lens: Any, tmp_path: Path) -> None:
    assert calibration_of(tmp_path, text) == ([500, 510, 320, 240], lens, (640, 480))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"k_1": 0.1}, r"unknown keys \['k_1'\]; did you mean 'k1'"),
        ({"distorsion_coefficients": D5}, "did you mean 'distortion_coefficients'"),
        ({"widht": 640}, "did you mean 'width'"),
        ({"frames": []}, r"unknown keys \['frames'\]"),
        ({"k1": "much"}, "k1 must be a number"),
        ({"distortion": {"k9": 1}}, r"distortion: unknown keys \['k9'\]"),
        ({"distortion": "fisheye"}, "distortion must be"),
        ({"distortion_model": "omnidirectional", "D": D5}, "'omnidirectional' is not supported"),
        ({"camera_model": "eucm"}, "'eucm' is not supported"),
        ({"camera_model": "eucm", "k1": 0.1}, "'eucm' is not supported"),
        (
            {"distortion_model": "inverse_brown_conrady", "coeffs": D5},
            "inverse_brown_conrady' is not supported",
        ),
        ({"distortion": "none", "k1": 0.1}, "the model says no distortion"),
        ({"k1": 0.1, "distortion_coefficients": D5}, "contradict"),
        ({"k1": 0.1, "k4": 0.1}, "add distortion_model"),
        ({"distortion_coefficients": [0.1, 0.2]}, "must be k1 k2 p1 p2"),
        ({"distortion_coefficients": [0.1] * 12}, "at most 8"),
        (
            {"distortion_coefficients": {"rows": 1, "cols": 4, "data": D5}},
            "distortion_coefficients must be",
        ),
        ({"distortion_model": "equidistant"}, "has the coefficients k1 k2 k3 k4"),
        ({"distortion_model": "equidistant", "D": D5}, "has the coefficients k1 k2 k3 k4"),
        ({"camera_matrix": [[1, 0, 3], [0, 2, 4], [0, 0, 1]]}, "contradict"),
        ({"intrinsics": {"fx": 400}}, "'fx' is given twice, in 'intrinsics' and elsewhere"),
        ({"distortion_coefficients": {"k1": 0.1, "k9": 0.2}}, r"unknown keys \['k9'\]"),
        (
            {"model_type": "MEI", "mirror_parameters": {"xi": 1.9}},
            r"unknown keys \['mirror_parameters'\]",
        ),
        ({"K": [0] * 9}, "the camera was not calibrated"),
        (
            {"roi": {"width": 640, "height": 400}, "width": 640, "height": 480},
            "regions of interest",
        ),
        ({"camera_matrix": [1, 2, 3]}, "camera_matrix must be a 3x3 matrix"),
        ({"K": [500, 3, 320, 0, 510, 240, 0, 0, 1]}, "camera_matrix must be fx 0 cx"),
        ({"width": 640, "image_width": 320}, "say the same, but differ"),
        ({"width": 640, "height": 480, "resolution": [320, 240]}, "contradict"),
        ({"skew": 0.1}, "skew is 0.1"),
        ({"roi": {"x_offset": 8, "do_rectify": False}}, "regions of interest"),
        ({"binning_x": 2}, "binning"),
        ({"fx": "wide"}, "fx must be a positive number of pixels, got 'wide'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    content: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=complaint):
        calibration_of(tmp_path, FOUR | content)


def test_of_several_cameras_none_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="holds cam0, cam1; give a file with the entries of one camera"
    ):
        calibration_of(tmp_path, KALIBR + KALIBR.replace("cam0", "cam1"))


def test_a_region_of_interest_may_be_the_whole_image(tmp_path: Path) -> None:
    roi = {"x_offset": 0, "y_offset": 0, "width": 640, "height": 480, "do_rectify": True}
    assert calibration_of(tmp_path, FOUR | {"width": 640, "height": 480, "roi": roi})[2] == (
        640,
        480,
    )


@pytest.mark.parametrize("name", ["cameras.txt", "ost.ini", "camera.XML", "k.npy"])
def test_other_formats_are_told_what_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("1 PINHOLE 640 480 500 500 320 240")
    with pytest.raises(InputError, match="a calibration is JSON, or YAML if"):
        read_calibration(tmp_path / name)
