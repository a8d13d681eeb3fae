"""Rendered images, depth, poses and intrinsics agree with each other, and cover every case of room
and camera.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.worlds.probe import cast
from vggt3_ros.worlds.render import Views, render, render_depth, render_images
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views

HEIGHT, WIDTH, SEEDS = 96, 128, range(900_000, 900_006)


@pytest.fixture(scope="module")
def scene() -> tuple[RoomBatch, Tensor, Tensor, Views]:
    generator = torch.Generator().manual_seed(3)
    rooms = make_rooms(SEEDS)
    intrinsics = random_intrinsics(len(rooms), HEIGHT, WIDTH, generator)
    world_from_cam = training_views(rooms, 3, generator, span=0.5)
    return (
        rooms,
        world_from_cam,
        intrinsics,
        render(rooms, world_from_cam, intrinsics, HEIGHT, WIDTH, supersample=2),
    )


def warp(
    views: Views, world_from_cam: Tensor, intrinsics: Tensor, source: int, target: int
) -> tuple[Tensor, ...]:
    """Fetch view `target` at the surface points of view `source`; returns colours, expected z and
    depth found there.
    """
    points = unproject(views.depth[:, source].double(), intrinsics).flatten(1, 2)
    points = transform_points(world_from_cam[:, source], points)
    pixels, z = project(
        transform_points(se3_inverse(world_from_cam[:, target]), points), intrinsics
    )
    size = torch.tensor([WIDTH - 1, HEIGHT - 1])
    grid = (pixels / size * 2 - 1).clamp(-3, 3)[:, None].float()
    found = torch.nn.functional.grid_sample(
        torch.cat([views.images[:, target], views.depth[:, target, None]], 1),
        grid,
        align_corners=True,
    )[:, :, 0]
    inside = ((pixels >= 0) & (pixels <= size)).all(-1) & (z > 0.05)
    return found[:, :3], z, found[:, 3], inside


def test_a_view_warped_by_depth_and_poses_agrees_with_the_other_view(scene) -> None:
    _, poses, intrinsics, views = scene
    for source, target in ((0, 1), (1, 2), (2, 0)):
        colours, z, depth, inside = warp(views, poses, intrinsics, source, target)
        visible = inside & ((depth / z - 1).abs() < 0.02)
        own = views.images[:, source].flatten(2)
        error = (colours - own).abs().mean(1)[visible]
        mixed = (colours.roll(40, -1) - own).abs().mean(1)[visible]
        assert visible.sum() > 0.25 * visible.numel()
        assert error.mean() < 0.035
        # a misplaced warp is far worse, so textures are rich
        assert error.median() < 0.3 * mixed.median()


def test_depth_agrees_where_views_see_the_same_surface(scene) -> None:
    _, poses, intrinsics, views = scene
    _, z, depth, inside = warp(views, poses, intrinsics, 0, 1)
    ratio = (depth / z)[inside]
    # What another surface hides is nearer than expected, never farther (but beside silhouettes).
    assert ((ratio - 1).abs() < 5e-3).float().mean() > 0.75
    assert (ratio > 1.02).float().mean() < 0.03


def test_depth_is_that_of_single_rays(scene) -> None:
    rooms, poses, intrinsics, views = scene
    rows, columns = torch.meshgrid(
        torch.arange(0, HEIGHT, 5), torch.arange(0, WIDTH, 7), indexing="ij"
    )
    ones = torch.ones_like(views.depth[:, 0], dtype=torch.float64)
    rays = unproject(ones, intrinsics)[:, rows, columns].flatten(1, 2) @ poses[
        :, 0, :3, :3
    ].transpose(1, 2)
    origins = poses[:, 0, None, :3, 3].expand_as(rays)
    error = (cast(rooms, origins, rays) / views.depth[:, 0][:, rows, columns].flatten(1) - 1).abs()
    assert (error < 5e-5).float().mean() > 0.998  # rays along silhouettes may fall on either side


def test_depth_is_positive_and_finite_and_images_are_in_range(scene) -> None:
    rooms, _, _, views = scene
    diagonal = torch.linalg.vector_norm(rooms.bounds[:, 1] - rooms.bounds[:, 0], dim=-1)
    assert torch.isfinite(views.images).all() and torch.isfinite(views.depth).all()
    assert (views.depth > 0.01).all() and (views.depth.amax((1, 2, 3)) < diagonal).all()
    assert views.images.min() >= 0 and views.images.max() <= 1
    assert views.images.shape == (6, 3, 3, HEIGHT, WIDTH) and views.depth.shape == (
        6,
        3,
        HEIGHT,
        WIDTH,
    )


def test_images_have_contrast_and_rooms_differ(scene) -> None:
    views = scene[3]
    assert views.images.flatten(2).std(-1).median() > 0.1
    assert (views.images.mean((1, 3, 4)).std(0) > 0.02).all()


def test_axis_aligned_cameras_and_odd_sizes_leave_no_hole() -> None:
    rooms = make_rooms([900_001])
    pose = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    pose[:, :, 2, 3] = rooms.bounds[0, 1, 2] - 0.3
    pose[0, 1, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    intrinsics = torch.tensor([[40.0, 0, 25], [0, 40, 17], [0, 0, 1]])
    views = render(rooms, pose, intrinsics, 35, 51)
    assert views.images.shape == (1, 2, 3, 35, 51)
    assert torch.isfinite(views.depth).all() and (views.depth > 0).all()
    # the ceiling, or a picture on it
    assert views.depth[0, 0, 17, 25].item() == pytest.approx(0.3, abs=0.02)


def test_same_call_gives_same_bytes() -> None:
    def once() -> Views:
        generator = torch.Generator().manual_seed(5)
        rooms = make_rooms([900_010, 900_011])
        poses = training_views(rooms, 2, generator, 1.0)
        return render(rooms, poses, random_intrinsics(2, 48, 64, generator), 48, 64)

    first, second = once(), once()
    assert torch.equal(first.images, second.images) and torch.equal(first.depth, second.depth)


def test_the_size_of_a_batch_does_not_change_a_view(scene) -> None:
    rooms, poses, intrinsics, views = scene
    alone = render(
        rooms.select(slice(4, 5)), poses[4:5, 1:2], intrinsics[4:5], HEIGHT, WIDTH, supersample=2
    )
    torch.testing.assert_close(alone.depth[0, 0], views.depth[4, 1], rtol=1e-4, atol=1e-4)
    assert (alone.images[0, 0] - views.images[4, 1]).abs().mean() < 1e-4


def test_wrong_shapes_are_refused() -> None:
    rooms = make_rooms([900_000])
    with pytest.raises(InputError, match="world_from_cam"):
        render(rooms, torch.eye(4)[None], torch.eye(3), 32, 32)
    with pytest.raises(InputError, match="intrinsics"):
        render(rooms, torch.eye(4)[None, None], torch.eye(4), 32, 32)


def test_supersampling_does_not_shift_the_image(scene) -> None:
    rooms, poses, intrinsics, fine = scene
    plain = render(rooms, poses, intrinsics, HEIGHT, WIDTH).images
    here, right, left, down, up = (
        (plain.roll(shift, axis) - fine.images)[..., 2:-2, 2:-2].abs().mean()
        for shift, axis in ((0, -1), (1, -1), (-1, -1), (1, -2), (-1, -2))
    )
    assert 2 * here < min(right, left, down, up)
    assert right / left == pytest.approx(1, abs=0.1) and down / up == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("supersample", [1, 2])
def test_images_alone_and_depth_alone_are_those_of_both(scene, supersample: int) -> None:
    rooms, poses, intrinsics, _ = scene
    view = (rooms, poses, intrinsics, HEIGHT, WIDTH)
    both = render(*view, supersample=supersample)
    assert torch.equal(render_images(*view, supersample=supersample), both.images)
    assert torch.equal(render_depth(*view), both.depth)
