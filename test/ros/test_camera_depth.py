"""The bit depth of a node's camera: as the parameter says, or of all its images since it was
activated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rclpy.node import Node

from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.input import CameraInput, UnusableError
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters

from .image_messages import message_of

Brightness = Callable[[int], int]


@pytest.fixture
def camera(node: Node) -> Callable[..., Brightness]:
    """A camera whose mono16 images have one pixel value, of which it gives what is made of it."""

    def make(**changes: Any) -> Brightness:
        values: dict[str, Any] = {
            "require_calibration": False,
            "odometry_source": "none",
            "camera_frame": "camera",
        }
        settings = LocalizerParameters(**{**values, **changes})
        made = CameraInput(
            node, lambda: settings, ImageCounts(), lambda message: None, lambda: None
        )
        stamps = iter(range(1, 100))

        def brightness(value: int) -> int:
            message = message_of(np.array([[0, 1, value]], np.uint16), "mono16")
            message.header.stamp.sec = next(stamps)
            return int(made.frame(message).frame.image.max())

        return brightness

    return make


def test_brightness_stays_once_the_brightest_pixel_has_come(
    camera: Callable[..., Brightness], capfd: pytest.CaptureFixture[str]
) -> None:
    brightness = camera()
    assert [brightness(value) for value in (700, 4095, 700, 4095)] == [174, 255, 44, 255]
    assert camera()(1023) == 255  # activated anew
    told = [line for line in capfd.readouterr().err.splitlines() if "bits" in line]
    assert ["images have 10 bits, so far: set bit_depth" in line for line in told] == [
        True,
        False,
        True,
    ]


def test_the_parameter_says_what_white_is(camera: Callable[..., Brightness]) -> None:
    brightness = camera(bit_depth=12)
    assert [brightness(value) for value in (700, 4095)] == [44, 255]
    with pytest.raises(UnusableError, match="pixels up to 4096, but bit_depth is 12"):
        brightness(4096)
