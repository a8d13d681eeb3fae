"""Tangent planes are those of the surfaces, up to their very edges."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.tangents import tangent_planes
from vggt3_ros.geometry.camera import intrinsics_matrix

from .views import FOCAL, HEIGHT, WIDTH, rays, room

INTRINSICS = intrinsics_matrix(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)


def depth_of_plane(plane: Tensor) -> Tensor:
    """Depth (h, w) of the plane of points x with plane . x = 1, where it is before the camera."""
    inverse = rays() @ plane
    return torch.where(inverse > 0, 1 / inverse, 0.0)


def test_a_plane_is_found_in_every_pixel() -> None:
    plane = torch.tensor([0.1, -0.2, 0.4]).double()
    assert torch.allclose(
        tangent_planes(depth_of_plane(plane), INTRINSICS), plane.expand(HEIGHT, WIDTH, 3)
    )


def test_on_both_sides_of_a_step_the_slopes_are_those_of_the_surfaces() -> None:
    near, far = torch.tensor([0.1, 0.0, 0.5]).double(), torch.tensor([-0.05, 0.1, 0.3]).double()
    left = torch.arange(WIDTH).expand(HEIGHT, WIDTH) < 30
    planes = tangent_planes(
        torch.where(left, depth_of_plane(near), depth_of_plane(far)), INTRINSICS
    )
    assert torch.allclose(planes, torch.where(left[..., None], near, far))


def test_beside_a_corner_of_two_walls_the_slopes_are_those_of_the_walls() -> None:
    a, b = torch.tensor([0.6, 0.0, 0.5]).double(), torch.tensor([-0.7, 0.0, 0.51]).double()
    nearer = torch.maximum(rays() @ a, rays() @ b)
    planes = tangent_planes(1 / nearer, INTRINSICS)
    on_a = (rays() @ a >= rays() @ b)[..., None]
    assert torch.allclose(planes, torch.where(on_a, a, b))


def test_where_depth_is_unknown_there_is_no_plane_and_its_neighbours_do_without() -> None:
    plane = torch.tensor([0.1, -0.2, 0.4]).double()
    depth = depth_of_plane(plane)
    depth[20, 20:40] = 0
    depth[10:15, 10:15] = 0
    depth[12, 12] = 3.0
    planes = tangent_planes(depth, INTRINSICS)
    lone = torch.zeros_like(depth, dtype=torch.bool)
    lone[12, 12] = True
    assert not planes[(depth == 0) | lone].any()
    assert torch.allclose(planes[(depth > 0) & ~lone], plane)


def test_the_inverse_depth_of_the_planes_is_that_of_the_pixels() -> None:
    views = room()
    for depth in views.depth:
        planes = tangent_planes(depth, views.intrinsics[0].float())
        assert torch.allclose((planes * rays().float()).sum(-1), 1 / depth, rtol=1e-5)
