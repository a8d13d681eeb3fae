"""Corridors and yards follow from their seeds and are passable; shadows darken what the light does
not reach.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.light import draw_light
from vggt3_ros.worlds.places import place_planner, plan_corridor, plan_yard
from vggt3_ros.worlds.plan import MAX_THINGS
from vggt3_ros.worlds.probe import clearance
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.shadows import with_shadows
from vggt3_ros.worlds.viewpoints import CLEARANCE, random_intrinsics, training_views


def pictures(places: RoomBatch, views: int = 2) -> torch.Tensor:
    """Images (B, views, 3, 48, 64) of training views."""
    generator = torch.Generator().manual_seed(0)
    poses = training_views(places, views, generator, 1.0)
    return render(places, poses, random_intrinsics(len(places), 48, 64, generator), 48, 64).images


@pytest.mark.parametrize("plan", [plan_corridor, plan_yard, place_planner(0.3, 0.3)])
def test_a_seed_gives_the_same_place_and_another_seed_another(plan) -> None:
    first, again, other = plan(7), plan(7), plan(8)
    assert np.array_equal(first.halves, again.halves) and np.array_equal(first.lights, again.lights)
    assert first.halves.shape != other.halves.shape or not np.array_equal(
        first.halves, other.halves
    )


def test_corridors_are_long_and_narrow_and_repeat_themselves() -> None:
    plans = [plan_corridor(seed) for seed in range(40)]
    shells = np.sort([plan.halves[0, :2] for plan in plans], axis=1)
    assert (shells[:, 1] > 2.5 * shells[:, 0]).all()
    alike = [np.unique(plan.halves[plan.materials == 2], axis=0).shape[0] for plan in plans]
    assert max(alike) == 1  # its doors
    assert all(len(plan.kinds) <= MAX_THINGS for plan in plans)


def test_yards_are_wide_and_furnished_and_lie_under_a_bright_sky() -> None:
    plans = [plan_yard(seed) for seed in range(40)]
    assert min(plan.halves[0, :2].min() for plan in plans) >= 5
    assert np.median([len(plan.kinds) for plan in plans]) > 20
    places = make_rooms(range(8), plan=plan_yard)
    up = torch.eye(4, dtype=torch.float64).repeat(8, 1, 1, 1)  # looks along +Z
    up[..., 2, 3] = 2 * places.half_sizes[:, None, 0, 2] - 0.3
    sky = render(places, up, torch.tensor([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]), 32, 32).images
    assert sky.mean((2, 3, 4)).min() > 0.6


@pytest.mark.parametrize("plan", [plan_corridor, plan_yard])
def test_there_is_room_for_cameras(plan) -> None:
    places = make_rooms(range(32), plan=plan)
    poses = training_views(places, 6, torch.Generator().manual_seed(3), 1.0)
    assert clearance(places, poses[..., :3, 3]).min() >= CLEARANCE - 1e-4


def test_planners_mix_as_told_and_leave_rooms_furnished_as_they_were() -> None:
    mixed = place_planner(0.25, 0.25)
    shapes = [mixed(seed).halves[0] for seed in range(200)]
    corridors = sum(shape[:2].max() > 2.5 * shape[:2].min() for shape in shapes)
    yards = sum(shape[2] > 2.2 for shape in shapes)
    assert 30 < corridors < 75 and 30 < yards < 75
    same, known = place_planner(0, 0)(11), plan_room(11)
    assert np.array_equal(same.centres, known.centres) and not np.array_equal(
        same.lights, known.lights
    )
    for shares in ((-0.1, 0.5), (0.6, 0.5), (float("nan"), 0.0)):
        with pytest.raises(InputError, match="shares of 0 or more"):
            place_planner(*shares)


def test_light_is_of_several_kinds_but_seldom_too_dark_or_too_bright() -> None:
    suns = [
        np.abs(draw_light(np.random.default_rng(seed), np.ones(3) * 3, True)[0][0, :3]).max() > 10
        for seed in range(60)
    ]
    assert 20 < sum(suns) < 50
    images = pictures(make_rooms(range(48), plan=place_planner(0.3, 0.3)))
    assert ((images > 0.98).flatten(1).float().mean(1) < 0.5).float().mean() > 0.9
    assert (images.mean((1, 2, 3, 4)) > 0.1).float().mean() > 0.9


def lit_floor(box_at: tuple[float, float], light: tuple[float, ...]) -> torch.Tensor:
    """Image (32, 32) of the floor within 0.35 m, from above, with a box that hovers at (x, y) above
    the camera.
    """
    plan = replace(
        plan_room(3),
        kinds=np.zeros(2, int),
        styles=plan_room(3).styles[:2],
        materials=np.arange(2),
        centres=np.array([[0, 0, 1.5], [*box_at, 0.5]]),
        halves=np.array([[4.0, 4.0, 1.5], [0.3, 0.3, 0.1]]),
        rotations=np.tile(np.eye(3), (2, 1, 1)),
        lights=np.array([light, [0, 0, 1, 0, 0, 0]]),
        ambient=np.full(3, 0.3),
    )
    room = with_shadows(make_rooms([3], plan=lambda _: plan))
    down = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))[None, None].clone()
    down[..., 2, 3] = 0.35
    return (
        render(room, down, torch.tensor([[16.0, 0, 16], [0, 16, 16], [0, 0, 1]]), 32, 32)
        .images[0, 0]
        .mean(0)
    )


def test_a_box_shades_the_floor_that_it_hides_from_a_lamp_or_the_sun() -> None:
    lamp, sun = (0.0, 0.0, 2.5, 2.0, 2.0, 2.0), (40.0, 0.0, 40.0, 250.0, 250.0, 250.0)
    under_lamp = lit_floor((0, 0), lamp) / lit_floor((3, 3), lamp)
    assert under_lamp.max() < 0.9  # all that the camera sees lies in the shadow
    under_sun = lit_floor((0, 0), sun) / lit_floor((3, 3), sun)
    # the sun stands at 45 degrees over +X: the shadow begins at x = -0.2
    x = (torch.arange(32) - 16) / 16 * 0.35
    assert under_sun[8:24, x < -0.3].max() < 0.7 and under_sun[:, x > -0.05].min() > 0.98


def test_shadows_can_be_left_out_room_by_room() -> None:
    rooms = make_rooms([1, 2])
    some = with_shadows(rooms, torch.tensor([True, False]))
    plain, shaded = pictures(rooms), pictures(some)
    assert torch.allclose(plain[1], shaded[1], atol=1e-6)
    assert (shaded[0] <= plain[0] + 1e-6).all() and (plain[0] - shaded[0]).max() > 0.05
