"""What a camera should see is told from the depth of others: the nearest surface, and nothing where
none saw one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.rendering import DepthRenderer
from vggt3_ros.geometry.se3 import rotation_from_axis_angle

from .views import HEIGHT, WIDTH, DepthViews, together, views, wall

# as far as there are keyframes, a camera has larger pixels than they
SIZE = (HEIGHT // 2, WIDTH // 2)
INTRINSICS = wall(2.0).intrinsics[0] * torch.tensor([[0.5], [0.5], [1.0]], dtype=torch.float64)


def renderer(seen: DepthViews) -> DepthRenderer:
    return DepthRenderer(seen.depth, seen.intrinsics, seen.world_from_cam)


def camera(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> Tensor:
    """world_from_cam (4, 4) at a place, turned about the vertical by radians."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation_from_axis_angle(torch.tensor([0.0, turn, 0.0], dtype=torch.float64))
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def with_box(distance: float) -> DepthViews:
    """A wall 2 m away, and something nearer in the middle of the image."""
    seen = wall(2.0, 3)
    depth = seen.depth.clone()
    depth[:, 24:40, 30:50] = distance
    return seen.with_depth(depth)


def test_a_wall_is_as_far_as_it_is_from_where_the_camera_stands() -> None:
    depth = renderer(wall(2.0, 3)).rendered(INTRINSICS, camera(z=0.25, x=0.1), SIZE, 3)
    assert float((depth > 0).float().mean()) > 0.9
    torch.testing.assert_close(
        depth[depth > 0], torch.full_like(depth[depth > 0], 1.75), rtol=1e-5, atol=0
    )


def test_a_slanted_wall_is_exact_between_its_points() -> None:
    turned = camera(turn=0.6)
    depth = renderer(wall(2.0, 5)).rendered(INTRINSICS, turned, SIZE, 5)
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    rays = (
        torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).double()
        @ torch.linalg.inv(INTRINSICS).T
    )
    true = 2.0 / (rays @ turned[:3, :3].T)[..., 2]
    known = depth > 0
    assert float(known.float().mean()) > 0.4
    assert float((depth / true - 1).abs()[known].median()) < 0.005


def test_the_nearest_surface_hides_what_is_behind_it() -> None:
    """Beside it the wall stays known, and nowhere is there a mixture of the two."""
    depth = renderer(with_box(1.0)).rendered(INTRINSICS, camera(), SIZE, 3)
    assert (depth[14:18, 18:22] == 1.0).all() and (depth[2:8] == 2.0).all()
    assert set(depth.unique().tolist()) <= {0.0, 1.0, 2.0}


def test_nothing_shows_through_the_gaps_of_a_surface_that_comes_near() -> None:
    """Points of something near are pixels apart for who comes nearer, and those of the wall fall
    between them.
    """
    seen = together(with_box(1.0), wall(2.0, 3))
    depth = renderer(seen).rendered(
        wall(2.0).intrinsics[0], camera(x=0.02, z=0.3), (HEIGHT, WIDTH), 6
    )
    box = depth[24:40, 30:50]
    assert float((box > 1.0).float().mean()) < 0.01 < 0.4 < float((box > 0).float().mean())


def test_keyframes_that_see_the_same_are_chosen_and_others_are_not() -> None:
    away = views(torch.full((1, HEIGHT, WIDTH), 2.0), camera(turn=torch.pi)[None])
    beyond = views(torch.full((1, HEIGHT, WIDTH), 0.5), camera(z=5.0)[None])
    made = renderer(together(away, beyond, wall(2.0, 2)))
    assert set(made.overlapping(INTRINSICS, camera(), SIZE, 2).tolist()) == {2, 3}
    assert set(made.overlapping(INTRINSICS, camera(turn=torch.pi), SIZE, 2).tolist()) == {0}


def test_where_no_keyframe_looked_nothing_is_known() -> None:
    made = renderer(wall(2.0, 3))
    assert not made.rendered(INTRINSICS, camera(turn=torch.pi), SIZE, 3).any()
    nothing = renderer(wall(2.0, 3).with_depth(torch.zeros(3, HEIGHT, WIDTH)))
    assert not nothing.rendered(INTRINSICS, camera(), SIZE, 3).any()
