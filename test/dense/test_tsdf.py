"""Depth of many views becomes one surface: where they see it, where they agree, and nowhere
else.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vggt3_ros.dense.marching import surface
from vggt3_ros.dense.tsdf import fuse, pixel_size
from vggt3_ros.dense.tsdf_volume import BLOCK_BYTES, TsdfSettings
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.mesh import Mesh

from ..pretended_device import DEVICE, PretendedDevice
from .views import CENTER, COLOR, RADIUS, DepthViews, rays, room, sphere, together, wall

pytest.importorskip("skimage")
VOXEL = 0.04


def mesh_of(views: DepthViews, voxel: float = VOXEL) -> Mesh:
    return surface(fuse(*views.arguments(), TsdfSettings(voxel=voxel)))


def borders(mesh: Mesh) -> int:
    """Edges that not exactly two faces share, in opposite directions."""
    faces = mesh.faces.long()
    ways = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there, back = (
        ways @ torch.tensor(order) for order in ([len(mesh.vertices), 1], [1, len(mesh.vertices)])
    )
    return int((~torch.isin(there, back)).sum()) + len(there) - len(torch.unique(there))


def signed_volume(mesh: Mesh) -> float:
    """Positive where the fronts of a closed surface are outside."""
    a, b, c = mesh.vertices.double()[mesh.faces.long()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_a_sphere_seen_from_all_sides_is_closed_and_within_half_a_voxel() -> None:
    mesh = mesh_of(sphere())
    off = (mesh.vertices - CENTER).norm(dim=1) - RADIUS
    assert off.abs().max() < VOXEL / 2 and off.abs().median() < VOXEL / 10
    assert borders(mesh) == 0
    assert signed_volume(mesh) == pytest.approx(4 / 3 * torch.pi * RADIUS**3, rel=0.02)
    outwards = (mesh.vertices - CENTER) / RADIUS
    assert ((mesh.normals * outwards).sum(1) > 0.97).all()
    assert (mesh.colors == torch.tensor(COLOR, dtype=torch.uint8)).all()


def test_a_surface_is_one_across_the_cubes_it_is_made_in() -> None:
    mesh = mesh_of(sphere(), 0.02)  # the planes between cubes of 128 voxels go through it
    assert borders(mesh) == 0 and len(torch.unique(mesh.vertices, dim=0)) == len(mesh.vertices)


def test_a_room_seen_from_inside_is_closed_with_its_front_inside() -> None:
    mesh = mesh_of(room())
    farthest, second, _ = mesh.vertices.abs().topk(3, dim=1).values.unbind(1)
    off = (farthest - 1).abs()
    # edges of a cube are cut off
    assert off[second < 1 - 2 * VOXEL].max() < VOXEL / 10 and off.max() < VOXEL
    assert borders(mesh) == 0
    assert signed_volume(mesh) == pytest.approx(-8, rel=0.02)


def test_walls_seen_at_a_slant_are_not_bent() -> None:
    vertices = mesh_of(room(half=2.0), 0.05).vertices  # voxels as large as pixels
    farthest, second, _ = vertices.abs().topk(3, dim=1).values.unbind(1)
    assert (farthest[second < 1.8] - 2).abs().max() < 2e-4


def test_a_floor_is_whole_as_far_as_it_is_seen_steeply_enough() -> None:
    below = rays()[..., 1]
    views = wall(1.0)
    depth = torch.where(below > 0.02, 1 / below.clamp(min=0.02), 0.0).float()  # 1 below the camera
    x, y, z = mesh_of(views.with_depth(depth[None]), 0.05).vertices.T
    assert (y - 1).abs().max() < 0.01
    assert 6.0 < z.max() < 6.8  # cosine of incidence 0.15 at a distance of 6.7
    there = torch.histogramdd(torch.stack([x, z], 1), [10, 16], range=[-1.0, 1.0, 2.0, 5.2]).hist
    assert (there > 0).all()  # rows of pixels are 0.6 apart there


def test_colours_are_where_they_belong() -> None:
    views = wall(2.0, count=2)
    images = views.images.clone()
    images[..., :40] = 10  # left half
    mesh = mesh_of(replace(views, images=images))
    left, right = mesh.vertices[:, 0] < -0.05, mesh.vertices[:, 0] > 0.1
    assert (mesh.colors[left] == 10).all() and (
        mesh.colors[right] == torch.tensor(COLOR).byte()
    ).all()


def test_what_one_view_alone_sees_before_a_wall_that_others_see_is_no_surface() -> None:
    mesh = mesh_of(together(wall(2.0), wall(3.0, count=3)))
    assert mesh.vertices[:, 2].min() > 2.97
    assert mesh_of(wall(2.0)).vertices[:, 2].max() < 2.03  # by itself it is one


def test_one_view_that_sees_through_a_wall_takes_nothing_from_it() -> None:
    mesh = mesh_of(together(wall(3.0), wall(2.0, count=5)))
    near = mesh.vertices[mesh.vertices[:, 2] < 2.5]
    assert len(near) > 1000 and (near[:, 2] - 2).abs().max() < VOXEL


def test_views_that_differ_by_less_than_a_voxel_are_averaged() -> None:
    mesh = mesh_of(together(wall(2.0), wall(2.02)))
    assert (mesh.vertices[:, 2] - 2.01).abs().max() < 0.002


def test_a_hole_in_the_depth_is_a_hole_in_the_mesh() -> None:
    views = wall(2.0, count=2)
    depth = views.depth.clone()
    depth[:, 20:44, 25:55] = 0
    vertices = mesh_of(views.with_depth(depth)).vertices
    within = (vertices[:, 0].abs() < 0.4) & (vertices[:, 1].abs() < 0.3)
    assert not within.any() and len(vertices) > 1000
    hidden = replace(views, weights=(depth > 0).float())
    assert torch.equal(mesh_of(hidden).vertices, vertices)


def test_nothing_joins_what_stands_before_a_wall_to_it() -> None:
    views = wall(3.0, count=2)
    depth = views.depth.clone()
    depth[:, 20:44, 25:55] = 2.0
    z = mesh_of(views.with_depth(depth)).vertices[:, 2]
    assert (((z - 2).abs() < 2 * VOXEL) | ((z - 3).abs() < VOXEL)).all() and (z < 2.1).any()


def test_small_islands_are_dropped() -> None:
    views = wall(3.0, count=2)
    depth = views.depth.clone()
    depth[:, 30:35, 30:35] = 1.0  # 12 cm wide
    assert mesh_of(views.with_depth(depth)).vertices[:, 2].min() > 2.9
    with pytest.raises(InputError, match="no surface larger than 64 voxel faces"):
        mesh_of(views.with_depth(torch.where(depth == 1, depth, 0.0)))


def test_voxels_are_as_large_as_pixels_unless_they_do_not_fit() -> None:
    views = wall(3.0, count=2)
    assert fuse(*views.arguments()).voxel == pixel_size(views.depth, views.intrinsics) == 0.075
    memory = 60 * BLOCK_BYTES
    volume = fuse(*views.arguments(), TsdfSettings(memory=memory))
    assert volume.voxel > volume.wanted == 0.075 and len(volume.blocks) <= 60
    assert (surface(volume).vertices[:, 2] - 3).abs().max() < 0.001
    with pytest.raises(
        InputError, match=r"voxels of 0.075 do not fit into .* GB; give [0-9.]+, or none"
    ) as refusal:
        fuse(*views.arguments(), TsdfSettings(voxel=0.075, memory=memory))
    (advised,) = re.findall(r"give ([0-9.]+),", str(refusal.value))
    assert fuse(
        *views.arguments(), TsdfSettings(voxel=float(advised), memory=memory)
    ).voxel == float(advised)


def test_progress_goes_from_0_to_1_and_may_cancel() -> None:
    views = sphere()
    shares: list[float] = []
    volume = fuse(*views.arguments(), TsdfSettings(voxel=0.1), shares.append)
    assert (
        shares == sorted(shares)
        and shares[0] == 0
        and shares[-1] == 1
        and len(shares) > len(views.depth)
    )

    def cancel(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse(*views.arguments(), TsdfSettings(voxel=0.1), cancel)
    with pytest.raises(KeyboardInterrupt):
        surface(volume, cancel)


def test_a_place_far_from_the_origin_is_as_exact() -> None:
    views = wall(2.0, count=2)
    poses = views.world_from_cam.clone()
    poses[:, :3, 3] += torch.tensor([-700.0, 500.0, 100.0])
    vertices = mesh_of(replace(views, world_from_cam=poses)).vertices
    assert (vertices[:, 2] - 102).abs().max() < 0.001 and (vertices[:, 0] < -690).all()


def test_fusing_on_another_device_gives_the_same() -> None:
    views = wall(2.0, count=2)
    expected = fuse(*views.arguments(), TsdfSettings(voxel=0.1))
    with PretendedDevice():
        volume = fuse(*(tensor.to(DEVICE) for tensor in views.arguments()), TsdfSettings(voxel=0.1))
        assert volume.distance.device == DEVICE
        weight, distance = volume.weight.cpu(), volume.distance.cpu()
    assert torch.equal(weight, expected.weight) and torch.equal(distance, expected.distance)


def spoiled(name: str, value: Tensor) -> DepthViews:
    return replace(wall(2.0, count=2), **{name: value})


@pytest.mark.parametrize(
    ("views", "why"),
    [
        (spoiled("depth", torch.ones(64, 80)), r"depth must be \(S, h, w\)"),
        (spoiled("depth", torch.ones(0, 64, 80)), "at least one keyframe"),
        (
            spoiled("weights", torch.ones(2, 64, 81)),
            r"weights must be \(2, 64, 80\) .* got \(2, 64, 81\)",
        ),
        (spoiled("images", torch.ones(2, 64, 80, 3)), r"images must be \(2, 3, 64, 80\)"),
        (spoiled("depth", torch.full((2, 64, 80), torch.nan)), "depth must be finite"),
        (spoiled("weights", -torch.ones(2, 64, 80)), "weights must be finite and 0 or more"),
        (spoiled("intrinsics", torch.zeros(2, 3, 3)), "focal lengths above 0"),
        (spoiled("world_from_cam", torch.full((2, 4, 4), torch.inf)), "poses must be finite"),
        (spoiled("depth", torch.zeros(2, 64, 80)), "no pixel has depth"),
        (spoiled("weights", torch.zeros(2, 64, 80)), "no pixel has depth"),
        (together(wall(1e6), wall(2.0, count=2)), "the surfaces reach over .* voxels; leave out"),
        (
            spoiled("depth", torch.eye(64)[:, :1].expand(2, 64, 80).contiguous()),
            "shows no surface: no pixel has",
        ),
    ],
)
def test_input_that_shows_nothing_is_refused_with_the_reason(views: DepthViews, why: str) -> None:
    with pytest.raises(InputError, match=why):
        fuse(*views.arguments(), TsdfSettings(voxel=0.05))


def test_voxels_far_smaller_than_pixels_are_refused() -> None:
    with pytest.raises(
        InputError, match="voxels of 0.01 are too small for pixels of 0.05: give 0.013 or more"
    ):
        fuse(*wall(2.0).arguments(), TsdfSettings(voxel=0.01))


@pytest.mark.parametrize(
    "settings",
    [
        {"voxel": 0.0},
        {"voxel": float("nan")},
        {"truncation": 1.0},
        {"least_cosine": 1.0},
        {"memory": 100},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        TsdfSettings(**settings)  # type: ignore[arg-type]


def test_without_scikit_image_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = fuse(*wall(2.0).arguments())
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(
        InputError, match=r"scikit-image, which is not installed: pip install 'vggt3_ros\[mesh\]'"
    ):
        surface(volume)
