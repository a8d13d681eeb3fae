"""The parts of refinement each do what they say."""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.dense.aggregate import semi_global, winner
from vggt3_ros.dense.agreement import agreement
from vggt3_ros.dense.cameras import homogeneous_pixels, mapping
from vggt3_ros.dense.fill import carried_on
from vggt3_ros.dense.matching import Matching
from vggt3_ros.dense.neighbours import inverse_ranges, neighbours
from vggt3_ros.dense.planes import Planes, find_planes, plane_inverse, refitted
from vggt3_ros.dense.resize import averaged, averaged_intrinsics, working_size
from vggt3_ros.dense.shape import bend, camera_points, normals, steepness
from vggt3_ros.dense.views import Views
from vggt3_ros.dense.windows import box_mean, median3, near_mean
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3

from .scenes import HEIGHT, INTRINSICS, WIDTH, floor, keyframes, row, wall


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("radius", [1, 2])
def test_box_mean_is_that_of_the_pixels_within_the_image(radius: int) -> None:
    values = random(3, 7, 9)
    pooled = torch.nn.functional.avg_pool2d(
        values, 2 * radius + 1, 1, radius, count_include_pad=False
    )
    assert torch.allclose(box_mean(values, radius), pooled, atol=1e-6)


def test_near_mean_smooths_slants_and_keeps_steps() -> None:
    slant = (0.3 + 0.01 * torch.arange(20.0)).expand(1, 15, 20)
    step = torch.where(torch.arange(20) < 10, 0.0, 0.5)
    rough = slant + step + 0.005 * (random(1, 15, 20) - 0.5)
    smooth = near_mean(rough, 2, torch.tensor([[[0.1]]]))
    off = (smooth - slant - step)[:, 2:-2, 2:-2].abs()
    # beside the step a window leans to its own side, by a pixel's slant at most
    assert float(off.max()) < 0.022
    assert float(off[:, :, :5].max()) < 0.0015  # away from it, noise is averaged


def test_median_takes_out_single_pixels() -> None:
    values = torch.ones(1, 5, 5)
    values[0, 2, 2] = 9
    values[0, 0, 0] = 9
    assert torch.equal(median3(values)[0, 1:4, 1:4], torch.ones(3, 3))


@pytest.mark.parametrize(
    ("before", "after", "off"), [((48, 64), (12, 16), 1e-4), ((45, 80), (20, 35), 0.03)]
)
def test_averaged_images_fit_averaged_intrinsics(
    before: tuple[int, int], after: tuple[int, int], off: float
) -> None:
    ramp = homogeneous_pixels(before, torch.zeros(1))[:2]  # each pixel's own place
    places = averaged(ramp, after)
    after_from_before = averaged_intrinsics(torch.eye(3), before, after)
    pixels = homogeneous_pixels(after, torch.zeros(1))
    whole = torch.cat([places, torch.ones(1, *after)])
    assert torch.allclose((after_from_before @ whole.flatten(1)).view(3, *after), pixels, atol=off)


def test_working_size_keeps_the_shape_and_never_enlarges() -> None:
    assert working_size((480, 640), 160) == (120, 160)
    assert working_size((1280, 720), 160) == (160, 90)
    assert working_size((60, 80), 160) == (60, 80)
    assert working_size((90, 1800), 160) == (16, 320), "a strip stays high enough to be matched"


def test_mapping_agrees_with_projection() -> None:
    poses = row(2)
    into = mapping(INTRINSICS.expand(2, 3, 3), poses, torch.tensor([0]), torch.tensor([[1]]))
    pixel, depth = torch.tensor([12.0, 40.0, 1.0]), 2.5
    point = transform_points(
        poses[0], depth * (torch.linalg.inv(INTRINSICS) @ pixel.double())[None]
    )
    expected, z = project(transform_points(se3_inverse(poses[1]), point), INTRINSICS)
    found = into.turn[0, 0] @ pixel + into.shift[0, 0] / depth
    assert torch.allclose(found[:2] / found[2], expected[0].float(), atol=1e-3)
    assert float(depth * found[2]) == pytest.approx(float(z), rel=1e-5)


def test_images_are_most_alike_at_the_true_depth_and_nothing_is_evidence_outside() -> None:
    scene, depth = keyframes([wall()], row(3))
    matching = Views.of(scene).matching(torch.tensor([1]), torch.tensor([[0, 2]]))
    true = 1 / depth[1][None]
    cost = matching.cost(torch.stack([0.9 * true, true, 1.1 * true], dim=1), radius=2)
    assert float((cost.argmin(1) == 1).float().mean()) > 0.97
    assert (
        float(matching.evidence(true[:, None], radius=2)[:, 0, 5:-5, 10:-10].quantile(0.01)) > 0.9
    )
    # 2 cm off the camera: views look past it
    beyond = matching.evidence(torch.full_like(true, 50.0)[:, None], radius=2)
    assert bool((beyond == -1).all())


def test_likeness_does_not_mind_gain_and_offset() -> None:
    scene, depth = keyframes([wall()], row(2))
    views = Views.of(scene)
    pair = views.matching(torch.tensor([0]), torch.tensor([[1]]))
    other = Matching(pair.reference, 0.7 * pair.views + 0.1, pair.usable, pair.mapping)
    true = 1 / depth[:1, None]
    assert torch.allclose(pair.evidence(true, 2), other.evidence(true, 2), atol=0.05)


def test_semi_global_matching_bridges_what_says_nothing_and_keeps_jumps_at_edges() -> None:
    cost = torch.full((1, 8, 9, 20), 1.0)
    cost[:, 2, :, :10] = 0
    cost[:, 6, :, 10:] = 0
    cost[:, :, 3:6, 4:7] = 0.5  # undecided
    jump_right, jump_down = torch.full((1, 9, 19), 0.5), torch.full((1, 8, 20), 0.5)
    label, _ = winner(semi_global(cost, 0.1, jump_right, jump_down))
    assert torch.equal(label[0].round()[:, :10], torch.full((9, 10), 2.0))
    assert torch.equal(label[0].round()[:, 10:], torch.full((9, 10), 6.0))


def test_winner_finds_the_vertex_of_a_parabola() -> None:
    labels = torch.arange(9.0)[None, :, None, None]
    label, least = winner((labels - torch.tensor([[3.3, 5.0]])) ** 2)
    assert torch.allclose(label, torch.tensor([[[3.3, 5.0]]]), atol=1e-5)
    assert float(least[0, 0, 1]) == 0


def test_values_are_carried_on_up_to_an_edge_of_the_guide() -> None:
    guide = torch.where(torch.arange(40) < 20, 0.2, 0.8).expand(1, 1, 30, 40).contiguous()
    weight = torch.zeros(1, 1, 30, 40)
    weight[..., 12:18, 2:8] = 1
    weight[..., 12:18, 32:38] = 1
    values = torch.where(torch.arange(40) < 20, 1.0, 5.0).expand(1, 1, 30, 40)
    carried = carried_on(values * weight, weight, guide)
    assert torch.allclose(carried[..., :18], torch.tensor(1.0), atol=0.05)
    assert torch.allclose(carried[..., 22:], torch.tensor(5.0), atol=0.05)


def test_what_is_known_nowhere_is_zero() -> None:
    carried = carried_on(torch.zeros(1, 1, 20, 30), torch.zeros(1, 1, 20, 30), random(1, 1, 20, 30))
    assert torch.equal(carried, torch.zeros(1, 1, 20, 30))


def test_neighbours_share_landmarks_and_stand_apart() -> None:
    poses = row(6, step=0.3)
    poses[1] = poses[0]
    poses[1, 0, 3] += 0.003  # at the place of the first one
    scene, _ = keyframes([wall()], poses)
    chosen = neighbours(scene, 3, least_angle=1.0)
    assert 1 not in chosen[0].tolist()
    assert 0 not in chosen[1].tolist()
    assert bool((chosen != torch.arange(6)[:, None]).all())
    assert bool((chosen[:, 0] >= 0).all())


def test_keyframe_without_common_landmarks_has_no_neighbours() -> None:
    scene, _ = keyframes([wall()], row(3))
    few = scene.observed_from != 1
    alone = type(scene)(
        **{
            **vars(scene),
            "observed": scene.observed[few],
            "observed_from": scene.observed_from[few],
        }
    )
    assert neighbours(alone, 2, 1.0)[1].tolist() == [-1, -1]


def test_ranges_enclose_what_is_seen() -> None:
    scene, depth = keyframes([wall(), floor()], row(3))
    ranges = inverse_ranges(scene)
    finite = torch.where(depth.isfinite(), depth, depth[0, 0, 0])
    assert bool((ranges[:, 0] < 1 / finite.flatten(1).amax(1)).all())
    assert bool((ranges[:, 1] > 1 / finite.flatten(1).amin(1)).all())


def test_a_keyframe_may_see_as_near_as_others_have_landmarks() -> None:
    """Though its own are far: what is right before it may have no texture that makes landmarks."""
    poses = row(4)
    poses[3, 1, 3] += 2.2  # towards the wall
    ranges = inverse_ranges(keyframes([wall(3.0)], poses)[0])
    assert bool((ranges[:, 1] > 1 / 0.8).all())


def test_views_that_agree_see_through_or_see_something_before_are_told_apart() -> None:
    scene, depth = keyframes([wall()], row(3, step=0.3))
    views, batch, around = Views.of(scene), torch.tensor([1]), torch.tensor([[0, 2, -1]])
    known = torch.ones_like(depth, dtype=torch.bool)
    middle = (0, slice(20, 40), slice(30, 50))
    said = agreement(views, batch, around, depth[batch], depth, known, 0.01, 1.0)
    assert bool((said.agreeing[middle] == 2).all())
    assert torch.allclose(said.fused[middle], depth[1][middle[1:]], rtol=1e-3)
    nearer = agreement(views, batch, around, 0.8 * depth[batch], depth, known, 0.01, 1.0)
    assert bool((nearer.through[middle] == 2).all()) and bool((nearer.agreeing[middle] == 0).all())
    behind = agreement(views, batch, around, 1.2 * depth[batch], depth, known, 0.01, 1.0)
    assert bool((behind.seeing[middle] == 0).all())
    # seen under 6 degrees
    narrow = agreement(views, batch, around, depth[batch], depth, known, 0.01, 10.0)
    assert bool((narrow.agreeing == 0).all())


def test_planes_bend_nowhere_and_their_normals_face_the_camera() -> None:
    plane = torch.tensor([[0.6, 0.0, -0.8, 2.0]])
    depth = 1 / plane_inverse(plane, INTRINSICS, (HEIGHT, WIDTH))
    assert float(bend(depth).max()) < 1e-3
    found, known = normals(
        camera_points(depth, INTRINSICS[None]), torch.ones_like(depth, dtype=torch.bool)
    )
    assert torch.allclose(found[known], plane[:, :3].expand(int(known.sum()), 3), atol=2e-3)
    tangent = steepness(depth, INTRINSICS[None])[0, HEIGHT // 2, WIDTH // 2]
    assert float(tangent) == pytest.approx(0.6 / 0.8, rel=0.05)


def test_planes_are_found_among_points_and_come_back_from_the_world() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.tensor([0.0, 0.0, -1.0, 3.0]), torch.tensor([0.0, -0.96, -0.28, 1.5])
    points, facing = [], []
    for plane, count in ((first, 600), (second, 300)):
        near = 4 * torch.rand(count, 3, generator=generator) - 2
        near -= (near @ plane[:3] + plane[3])[:, None] * plane[:3]
        points.append(near + 0.003 * torch.randn(count, 3, generator=generator))
        facing.append(plane[:3].expand(count, 3))
    points.append(6 * torch.rand(100, 3, generator=generator) - 3)
    facing.append(torch.nn.functional.normalize(torch.randn(100, 3, generator=generator), dim=1))
    found = find_planes(torch.cat(points), torch.cat(facing), generator)
    assert torch.allclose(found.equations[:2].float(), torch.stack([first, second]), atol=0.01)
    assert found.pixels[:2].tolist() == pytest.approx([600, 300], rel=0.1)
    pose = row(3)[2]
    world_from_cam = Sim3(2.0, pose[:3, :3], pose[:3, 3])
    there = found.moved(world_from_cam)
    lengths = (there.equations[:, :3] * there.centres).sum(1) + there.equations[:, 3]
    assert float(lengths.abs().max()) < 0.02
    assert torch.allclose(there.moved(world_from_cam.inverse()).equations, found.equations)


def plane(degrees: float, offset: float, x: float, pixels: float) -> Planes:
    """A plane that faces z but for some degrees about y, at `offset` above a point x metres off the
    origin.
    """
    tilt = math.radians(degrees)
    normal = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)], dtype=torch.float64)
    centre = torch.tensor([x, 0.0, offset], dtype=torch.float64)
    equation = torch.cat([normal, -(normal @ centre)[None]])
    return Planes(equation[None], centre[None], torch.tensor([pixels], dtype=torch.float64))


def test_planes_of_several_keyframes_are_each_told_once_and_the_larger_count_more() -> None:
    other = plane(90, 0, 1, 50)
    small = plane(3, 0.02, 0.2, 10)
    turned = Planes(-small.equations, small.centres, small.pixels)
    merged = Planes.together([other, turned, plane(0, 0, 0, 90)]).merged(0.1)
    assert merged.pixels.tolist() == [100, 50]
    assert float(merged.equations[0, 2].abs()) == pytest.approx(
        math.cos(math.radians(0.3)), abs=1e-5
    )
    assert len(Planes.none().merged(0.1)) == 0


def test_planes_are_one_by_how_far_they_are_off_where_they_were_seen() -> None:
    ten_metres_off = Planes.together([plane(0, 0, 10, 2), plane(2, 0, 10, 1)])
    assert len(ten_metres_off.merged(0.1)) == 1
    assert len(Planes.together([plane(0, 0, 10, 2), plane(0, 0.2, 10, 1)]).merged(0.1)) == 2


def test_a_plane_lies_where_most_points_around_it_do() -> None:
    """A wall at 3 m, a panel 4 cm before a quarter of it, and a plane between the two."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2000, 3, generator=generator, dtype=torch.float64) * 3 - 1.5
    points[:, 2] = 3.0 + 0.005 * torch.randn(2000, generator=generator, dtype=torch.float64)
    points[:500, 2] -= 0.04
    between = torch.tensor([[0.01, 0.0, 1.0, -2.985]], dtype=torch.float64)
    wall = refitted(between, points, 1 / points[:, 2])
    assert torch.allclose(
        wall, torch.tensor([[0.0, 0.0, 1.0, -3.0]], dtype=torch.float64), atol=2e-3
    )
    assert torch.equal(refitted(between, points[:5], 1 / points[:5, 2]), between), "too few"


def test_planes_merge_until_nothing_merges() -> None:
    steps = Planes.together(
        [plane(0, 0.06 * step, 0, pixels) for step, pixels in enumerate((3, 1, 1, 2))]
    )
    merged = steps.merged(0.1)
    off = (merged.centres[:, None, 2] - merged.centres[:, 2]).abs() + torch.eye(len(merged))
    assert float(off.min()) > 0.1
