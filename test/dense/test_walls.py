"""Bare walls are found by what little texture they have, along the directions of planes that are
known.
"""

from __future__ import annotations

import torch

from vggt3_ros.dense.labels import mostly_confirmed, surface_labels, without_strips
from vggt3_ros.dense.planes import Planes, reach_of_planes, straightened
from vggt3_ros.dense.refine import refine
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.views import Views
from vggt3_ros.dense.walls import main_directions, votes, wall_planes
from vggt3_ros.geometry.provenance import Provenance

from .scenes import HEIGHT, WIDTH, Rectangle, keyframes, row, wall

RIGHT = Rectangle((0.8, 2.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.5, 3.0), seed=5)
BARE_LEFT = Rectangle(
    (-0.8, 2.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.5, 3.0), (3.0, 3.0), seed=6, faint=0.02
)


def planes(normals: list[list[float]], pixels: list[float]) -> Planes:
    unit = torch.nn.functional.normalize(torch.tensor(normals, dtype=torch.float64), dim=1)
    equations = torch.cat([unit, torch.ones(len(unit), 1, dtype=torch.float64)], dim=1)
    return Planes(equations, -unit, torch.tensor(pixels, dtype=torch.float64))


def test_main_directions_are_those_of_most_pixels_and_perpendicular() -> None:
    found = main_directions(
        planes([[1, 0.02, 0], [1, 1, 0], [0.01, 0, 1], [-1, 0.02, 0]], [50, 80, 30, 45])
    )
    assert torch.allclose(found @ found.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(
        found.abs(), torch.tensor([[1, 0, 0], [0, 0, 1], [0, 1, 0]]).double(), atol=0.03
    )


def test_there_are_fewer_main_directions_where_planes_tell_fewer() -> None:
    assert main_directions(Planes.none()).shape == (0, 3)
    assert main_directions(planes([[1, 0, 0], [1, 1, 0]], [50, 20])).shape == (1, 3)


def test_walls_are_where_points_heap_up() -> None:
    generator = torch.Generator().manual_seed(0)
    scattered = 4 * torch.rand(3000, 3, generator=generator, dtype=torch.float64) - 2
    on_walls = scattered.clone()
    on_walls[:600, 0] = 1.234 + 0.03 * torch.randn(600, generator=generator, dtype=torch.float64)
    on_walls[600:1000, 2] = -0.8 + 0.03 * torch.randn(400, generator=generator, dtype=torch.float64)
    axes = torch.eye(3, dtype=torch.float64)
    found = wall_planes(axes, on_walls, torch.ones(3000, dtype=torch.float64), 0.02)
    assert torch.equal(found[0, :3], axes[0]) and abs(float(found[0, 3]) + 1.234) < 0.01
    assert torch.equal(found[1, :3], axes[2]) and abs(float(found[1, 3]) - 0.8) < 0.01
    nothing = wall_planes(axes, on_walls[:0], torch.ones(0, dtype=torch.float64), 0.02)
    assert nothing.shape == (0, 4)


def test_only_pixels_that_are_open_vote_near_ones_more() -> None:
    scene, depth = keyframes([wall(2.0)], row(2))
    chosen = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    chosen[1, : HEIGHT // 2] = True
    points, weight = votes(depth, chosen, scene.intrinsics, scene.world_from_cam)
    assert len(points) == (HEIGHT // 2 + 3) // 4 * (WIDTH // 4)
    assert torch.allclose(points[:, 1], torch.tensor(2.0, dtype=torch.float64), atol=1e-3)
    assert torch.allclose(weight, 1 / depth[1, : HEIGHT // 2 : 4, ::4].flatten().double())


def test_the_surface_that_faint_texture_tells_is_labelled() -> None:
    faint = wall(blank=(9.0, 9.0), faint=0.05)
    scene, depth = keyframes([faint], row(3), per_keyframe=0)
    half = Views.of(scene).halved().matching(torch.tensor([1]), torch.tensor([[0, 2]]))
    true = 1 / depth[1][None]
    surfaces = torch.stack([0.75 * true, true, torch.zeros_like(true)], dim=1)
    nowhere = torch.zeros_like(true, dtype=torch.bool)
    label = surface_labels(half, 1.25 * true, nowhere, nowhere, surfaces)
    assert float((label == 2).float().mean()) > 0.8
    kept = surface_labels(half, true, nowhere, ~nowhere, surfaces[:, :1])
    assert float((kept == 0).float().mean()) > 0.9, "what is there is more alike"


def test_surfaces_that_are_seldom_confirmed_or_small_are_none() -> None:
    label = torch.zeros(1, 20, 100, dtype=torch.int64)
    label[0, :5], label[0, 5:10], label[0, 10, :5] = 1, 2, 3
    confirmed = torch.ones_like(label, dtype=torch.bool)
    confirmed[0, 5:10, :50] = False
    assert torch.equal(mostly_confirmed(label, confirmed), label == 1)


def test_strips_are_left_out_but_for_those_beside_the_same_surface() -> None:
    taken = torch.zeros(1, 40, 60, dtype=torch.bool)
    taken[0, 5:20, 5:20] = True
    whole = taken.clone()
    taken[0, 5:20, 40:44] = True
    nothing, beside = torch.zeros_like(taken), torch.zeros_like(taken)
    assert torch.equal(without_strips(taken, nothing), whole)
    beside[0, 5:20, 44:56] = True
    assert torch.equal(without_strips(taken, beside), taken)


def test_a_bare_wall_is_a_plane_where_others_tell_its_direction() -> None:
    scene, depth = keyframes([wall(), RIGHT, BARE_LEFT], row(step=0.1))
    left = torch.zeros_like(depth, dtype=torch.bool)
    left[:, 36:, :16] = True
    refined = refine(scene)
    off = (refined.depth / depth - 1).abs()
    taken = left & (refined.provenance == Provenance.PLANE)
    assert float(taken[left].float().mean()) > 0.5
    assert float(off[taken].median()) < 0.02
    assert float((refined.sigma / refined.depth)[taken].median()) > 0.01
    without = refine(scene, DenseSettings(planes=False))
    assert not bool((without.provenance == Provenance.PLANE).any())


def test_depth_near_a_plane_becomes_that_of_the_plane() -> None:
    surfaces = torch.tensor([8.0, 5.0]).reciprocal()[:, None, None].expand(2, 1, 4)
    depth = torch.tensor([[8.1, 5.06, 8.1, 7.0]])
    reach = torch.tensor([[0.16, 0.16, 0.08, 0.8]])
    straight = straightened(depth, reach, surfaces)
    assert torch.allclose(straight, torch.tensor([[8.0, 5.0, 8.1, 7.0]]))


def test_depth_may_be_off_a_plane_by_its_share_and_by_what_is_expected() -> None:
    depth = torch.tensor([[8.0, 8.0, 8.0, 8.0, 8.0]])
    expected = torch.tensor([[0.08, 0.04, 0.08, 0.01, 0.08]])
    agreed = torch.tensor([[True, True, False, False, False]])
    carried_on = torch.tensor([[False, False, True, True, False]])
    reach = reach_of_planes(depth, expected, agreed, carried_on)
    assert torch.allclose(reach, torch.tensor([[0.16, 0.12, 0.08, 0.03, 0.0]]))


def test_a_far_wall_that_keyframes_agree_on_is_straight() -> None:
    near = Rectangle((-1.5, 2.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.5, 3.0), seed=5)
    far = Rectangle((0.0, 8.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (9.0, 9.0), seed=7)
    scene, depth = keyframes([far, near], row(step=0.2))
    refined = refine(scene)
    agreed = (refined.provenance == Provenance.AGREED) & (depth > 5)
    off = (refined.depth - depth).abs()[agreed]
    assert float(agreed.float().mean()) > 0.2
    assert float(off.median()) < 0.02, "2.8 cm where each pixel is as it was matched"
