"""What does not fit together is refused, with what was given and what was expected."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import InputError

from .scenes import keyframes, row, wall


@pytest.fixture(scope="module")
def scene():
    return keyframes([wall()], row(2))[0]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "images",
            lambda images: images[:, :1],
            r"images must be \(S, 3, h, w\), got \(2, 1, 60, 80\)",
        ),
        ("images", lambda images: images * torch.nan, "images contain NaN"),
        ("images", lambda images: (255 * images).byte(), "floating point in"),
        (
            "intrinsics",
            lambda k: k[:1],
            r"intrinsics must be \(2, 3, 3\) as the images are, got \(1, 3, 3\)",
        ),
        (
            "predicted",
            lambda depth: depth[:, :30],
            r"predicted must be \(2, 60, 80\) .* got \(2, 30, 80\)",
        ),
        (
            "world_from_cam",
            lambda poses: 2 * poses,
            "keyframe 0: the upper left 3x3 is not a rotation",
        ),
        ("points", lambda points: points[:, :2], r"points must be \(\d+, 3\)"),
        ("observed", lambda numbers: numbers + 10_000, "name what does not exist"),
        ("observed_from", lambda numbers: numbers - 1, "name what does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(scene, name: str, change, said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(scene, **{name: change(getattr(scene, name))})


def test_tiny_images_are_refused(scene) -> None:
    with pytest.raises(InputError, match="at least 16 x 16"):
        replace(scene, images=scene.images[..., :10, :10], predicted=scene.predicted[..., :10, :10])


@pytest.mark.parametrize(
    "wrong",
    [
        {"long_side": 8},
        {"views": 0},
        {"views": 5, "checked": 4},
        {"batch": 0},
        {"tolerance": 0.0},
        {"least_angle": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="got|is 8"):
        DenseSettings(**wrong)  # type: ignore[arg-type]
