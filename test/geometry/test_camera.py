"""Cameras project and back-project consistently, in both pixel conventions."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import (
    Distortion,
    decode_camera,
    encode_camera,
    intrinsics_matrix,
    project,
    unproject,
)

from .test_se3 import random_poses


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_unprojected_pixels_project_back(offset) -> None:
    depth = torch.rand(2, 6, 8, dtype=torch.float64) + 1
    intrinsics = intrinsics_matrix(7.0, 6.0, 4.2, 2.9)
    pixels, z = project(unproject(depth, intrinsics, offset).flatten(1, 2), intrinsics)
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).flatten(0, 1).double() + offset
    torch.testing.assert_close(pixels, expected.expand(2, -1, -1))
    torch.testing.assert_close(z, depth.flatten(1))


def test_nine_numbers_hold_a_centred_camera() -> None:
    cam_from_world = random_poses(9)[:, :3]
    intrinsics = intrinsics_matrix(60.0, 55.0, 35.0, 28.0).expand(9, 3, 3)
    pose, k = decode_camera(encode_camera(cam_from_world, intrinsics, (56, 70)), (56, 70))
    torch.testing.assert_close(pose, cam_from_world)
    torch.testing.assert_close(k, intrinsics)


def test_distortion_is_checked_when_made() -> None:
    Distortion("plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="unknown"):
        Distortion("polynomial", (0.1,))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got 5"):
        Distortion("equidistant", (0.1, 0.0, 0.0, 0.0, 0.0))
