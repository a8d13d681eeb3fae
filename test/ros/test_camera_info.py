"""Calibrations: what of a CameraInfo is used, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.nodes.messages.camera_info import camera_from_info

K = [500.0, 0.0, 320.5, 0.0, 510.0, 241.0, 0.0, 0.0, 1.0]
SIZE_HW = (480, 640)


def info(model: str = "plumb_bob", d: tuple[float, ...] = (), **changes: Any) -> CameraInfo:
    return CameraInfo(
        **{"width": 640, "height": 480, "k": K, "distortion_model": model, "d": list(d), **changes}
    )


def test_intrinsics_are_those_of_the_raw_image() -> None:
    rectified = [400.0, 0.0, 300.0, 0.0, 0.0, 400.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    intrinsics, distortion = camera_from_info(info(p=rectified), SIZE_HW)
    assert intrinsics.dtype == torch.float64 and distortion is None
    np.testing.assert_array_equal(intrinsics.numpy(), np.reshape(K, (3, 3)))


@pytest.mark.parametrize(
    ("model", "d", "expected"),
    [
        (
            "plumb_bob",
            (0.1, -0.2, 0.01, 0.02, 0.3),
            Distortion("plumb_bob", (0.1, -0.2, 0.01, 0.02, 0.3)),
        ),
        ("plumb_bob", (0.1, -0.2, 0.0, 0.0), Distortion("plumb_bob", (0.1, -0.2, 0.0, 0.0))),
        ("rational_polynomial", (0.1,) * 8, Distortion("plumb_bob", (0.1,) * 8)),
        ("rational_polynomial", (*(0.1,) * 8, 0, 0, 0, 0), Distortion("plumb_bob", (0.1,) * 8)),
        ("equidistant", (0.1, 0.2, 0.3, 0.4), Distortion("equidistant", (0.1, 0.2, 0.3, 0.4))),
        ("plumb_bob", (0.0,) * 5, None),
        ("rational_polynomial", (0.0,) * 8, None),
        ("equidistant", (), None),
        ("", (), None),
    ],
)
def test_distortion_model_is_understood(
    model: str, d: tuple[float, ...], expected: Distortion | None
) -> None:
    assert camera_from_info(info(model, d), SIZE_HW)[1] == expected


def test_equidistant_lens_without_coefficients_is_still_no_pinhole() -> None:
    assert camera_from_info(info("equidistant", (0.0,) * 4), SIZE_HW)[1] == Distortion(
        "equidistant", (0.0,) * 4
    )


def test_ray_of_the_full_sensor_meets_the_binned_pixel_that_contains_it() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    intrinsics, _ = camera_from_info(info(binning_x=2, binning_y=3, roi=roi), (100, 200))
    ray = np.array([-0.11, 0.07, 1.0])
    full = np.reshape(K, (3, 3)) @ ray
    # Edges of pixels lie at half numbers; in units of pixels from the window's left upper edge,
    # binning divides.
    expected = (full[:2] + 0.5 - (100, 40)) / (2, 3) - 0.5
    np.testing.assert_allclose((intrinsics.numpy() @ ray)[:2], expected, atol=1e-12)


def test_binning_without_region_of_interest_is_of_the_full_sensor() -> None:
    intrinsics, _ = camera_from_info(info(binning_x=2, binning_y=2), (240, 320))
    assert float(intrinsics[0, 0]) == 250.0 and float(intrinsics[0, 2]) == 160.0


# of the right camera of a stereo pair
P = [400.0, 0.0, 300.5, -40.0, 0.0, 410.0, 200.25, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("model", ["plumb_bob", "thin_prism_fisheye"])
def test_of_rectified_images_p_counts_alone(model: str) -> None:
    intrinsics, distortion = camera_from_info(
        info(model, (0.1, 0.2, 0.3, 0.4), p=P), SIZE_HW, rectified=True
    )
    np.testing.assert_array_equal(
        intrinsics.numpy(), [[400.0, 0.0, 300.5], [0.0, 410.0, 200.25], [0.0, 0.0, 1.0]]
    )
    assert distortion is None


def test_binning_and_region_of_interest_hold_for_rectified_images_too() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    message = info(p=P, binning_x=2, binning_y=2, roi=roi)
    intrinsics, _ = camera_from_info(message, (150, 200), rectified=True)
    expected = [
        [200.0, 0.0, (300.5 - 100 + 0.5) / 2 - 0.5],
        [0.0, 205.0, (200.25 - 40 + 0.5) / 2 - 0.5],
    ]
    np.testing.assert_allclose(intrinsics.numpy()[:2], expected)


def test_rectified_images_need_a_projection_matrix() -> None:
    with pytest.raises(InputError, match=r"P is zero.*set rectified to false"):
        camera_from_info(info(), SIZE_HW, rectified=True)
    with pytest.raises(InputError, match=r"P = \[nan"):
        camera_from_info(info(p=[float("nan"), *P[1:]]), SIZE_HW, rectified=True)


def test_who_is_told_to_rectify_is_told_how_to_say_so() -> None:
    with pytest.raises(InputError, match=r"image_proc.*set rectified to true"):
        camera_from_info(info("double_sphere", (0.1, 0.2)), SIZE_HW)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (CameraInfo(width=640, height=480), "uncalibrated"),
        (info(k=[float("nan"), *K[1:]]), "expected fx 0 cx 0 fy cy 0 0 1"),
        (info(k=[-500.0, *K[1:]]), "positive focal lengths"),
        (info(k=[500.0, 3.0, *K[2:]]), "expected fx 0 cx"),
        (info(width=1280, height=960), "for images of 1280x960 pixels, the image has 640x480"),
        (
            info(binning_x=2, binning_y=2),
            r"of 320x240 pixels \(sensor 640x480 after .*\), the image has 640x480",
        ),
        (info("plumb_bob", (float("nan"),) * 5), "finite numbers"),
        (
            info("double_sphere", (0.1, 0.2)),
            "'double_sphere' with 2 coefficients; expected one of plumb_bob",
        ),
        (
            info("rational_polynomial", (0.1,) * 14),
            "'rational_polynomial' with 14 coefficients; .* at most 8",
        ),
        (info("plumb_bob", (0.1, 0.2)), "takes .* coefficients, got 2"),
    ],
)
def test_calibration_that_cannot_be_used_is_refused(message: CameraInfo, words: str) -> None:
    with pytest.raises(InputError, match=words):
        camera_from_info(message, SIZE_HW)
