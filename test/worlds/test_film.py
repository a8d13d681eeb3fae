"""A film shows what its lens sees, with the distortion that the lens says it has."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.worlds.film import Lens, film
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.trajectories import drive

ROOM = make_room(900_001)
POSES = drive(ROOM, 5, torch.Generator().manual_seed(1))


def test_images_are_those_of_the_renderer_in_order_whatever_the_threads() -> None:
    lens = Lens.of(80, 60, 1.2)
    expected = render(ROOM, POSES[None], lens.intrinsics, 60, 80, 2).images[0]
    expected = expected.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    for threads in (1, 3):
        images = np.stack(list(film(ROOM, POSES, lens, 2, threads)))
        assert images.dtype == np.uint8 and np.array_equal(images, expected)


@pytest.mark.parametrize("coefficients", [(-0.3, 0.1, 0.001, -0.002, 0.0), (0.2, 0.0, 0.0, 0.0)])
def test_undistorting_a_distorted_image_gives_the_plain_one(
    coefficients: tuple[float, ...],
) -> None:
    lens = Lens.of(160, 120, 1.2, Distortion("plumb_bob", coefficients))
    plain = next(iter(film(ROOM, POSES[:1], Lens.of(160, 120, 1.2))))
    distorted = next(iter(film(ROOM, POSES[:1], lens)))
    assert distorted.shape == plain.shape
    matrix, numbers = lens.intrinsics.numpy(), np.array(coefficients)
    straight = cv2.undistort(distorted, matrix, numbers)
    content = cv2.undistort(np.full_like(plain, 255), matrix, numbers) == 255
    before, after = (
        np.abs(image.astype(float) - plain)[content].mean() for image in (distorted, straight)
    )
    assert after < 0.35 * before


def test_a_distortion_that_folds_the_image_over_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="folds"):
        film(ROOM, POSES, Lens.of(80, 60, 1.2, Distortion("plumb_bob", (-3.0, 0.0, 0.0, 0.0, 0.0))))


def test_a_field_of_view_of_half_a_turn_is_refused() -> None:
    with pytest.raises(InputError, match="field of view"):
        Lens.of(80, 60, 3.2)
