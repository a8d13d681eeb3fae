from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle, se3, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.pipeline.upright import camera_up, floor_plane, upright
from vggt3_ros.worlds.sequence import room_sequence

Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
TURNED = Sim3(
    0.4,
    rotation_from_axis_angle(torch.tensor([1.3, -0.7, 0.2], dtype=torch.float64)),
    torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64),
)


@cache
def room(seed: int) -> tuple[Tensor, Tensor]:
    """Camera poses (12, 4, 4) and exact points (N, 3) of a room, in metres with Z up and the floor
    at 0.
    """
    seen = room_sequence(seed, map_frames=12, query_frames=0, height=48, width=64)
    camera_points = unproject(torch.from_numpy(seen.depth).double(), seen.intrinsics)
    return seen.world_from_cam, transform_points(
        seen.world_from_cam, camera_points.flatten(1, 2)
    ).reshape(-1, 3)


def degrees(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.atan2(float(torch.linalg.cross(a, b).norm()), float(a @ b)))


@pytest.mark.parametrize("seed", [1, 4])
def test_a_room_in_any_frame_is_set_upright_on_its_floor(seed: int) -> None:
    cameras, points = room(seed)
    noise = 0.01 * torch.randn(
        points.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    found = upright(TURNED.poses(cameras), TURNED.points(points + noise))
    assert found.source == "floor" and found.floor is not None and found.floor_height is not None
    assert degrees(found.rotation @ TURNED.rotation @ Z, Z) < 1.5
    torch.testing.assert_close(found.rotation @ found.rotation.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(found.rotation)) > 0
    heights = found.floor.height(TURNED.poses(cameras)[:, :3, 3]) / TURNED.scale
    torch.testing.assert_close(heights, cameras[:, 2, 3], rtol=0, atol=0.08)
    turned = TURNED.points(points) @ found.rotation.T
    assert (
        abs(float(turned[points[:, 2] < 0.01, 2].median()) - found.floor_height)
        < 0.03 * TURNED.scale
    )
    forward = found.rotation @ TURNED.rotation @ cameras[0, :3, 2]
    assert float(forward[0]) > 0 and abs(float(forward[1])) < 1e-6, "the first camera looks along X"


def test_without_a_floor_the_way_cameras_are_held_decides() -> None:
    for seed in (0, 1, 4):
        cameras, points = room(seed)
        # above the floor nothing level is below most of the points
        walls = points[points[:, 2] > 0.6]
        found = upright(TURNED.poses(cameras), TURNED.points(walls))
        assert found.source == "cameras" and found.floor_height is None
        assert degrees(found.rotation @ TURNED.rotation @ Z, Z) < 3.5


def test_pitched_cameras_that_turn_are_not_taken_for_a_slope() -> None:
    yaw = torch.linspace(0, 1.5, 10, dtype=torch.float64)
    # 35 degrees down
    target = torch.stack([yaw.cos(), yaw.sin(), torch.full_like(yaw, -0.7)], dim=1)
    cameras = look_at(torch.zeros(10, 3, dtype=torch.float64), target, Z)
    up, source = camera_up(cameras)
    assert source == "cameras" and degrees(up, Z) < 2
    assert degrees(-cameras[:, :3, 1].mean(0), Z) > 25, "the mean alone would be far off"
    # some were rolled
    cameras[3:6, :3, :3] = cameras[3:6, :3, :3] @ rotation_from_axis_angle(0.5 * Z)
    assert degrees(camera_up(cameras)[0], Z) < 2


def test_cameras_that_turn_while_looking_down_say_so() -> None:
    yaw = torch.linspace(0, 5.5, 12, dtype=torch.float64)
    ups = torch.stack([yaw.cos(), yaw.sin(), 0 * yaw], dim=1)
    places = torch.stack([yaw, 0 * yaw, 2 + 0 * yaw], dim=1)
    cameras = look_at(places, places - Z, ups)
    found = upright(TURNED.poses(cameras))
    assert (
        found.source == "downward cameras"
        and degrees(found.rotation @ TURNED.rotation @ Z, Z) < 1e-4
    )
    flat = torch.rand(
        4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ) * torch.tensor([6, 4, 0])
    assert upright(TURNED.poses(cameras), TURNED.points(flat)).source == "floor"


def test_cameras_held_in_all_ways_still_give_a_rotation() -> None:
    dice = torch.Generator().manual_seed(5)
    rotations = rotation_from_axis_angle(
        3 * torch.randn(40, 3, generator=dice, dtype=torch.float64)
    )
    found = upright(se3(rotations, torch.zeros(40, 3, dtype=torch.float64)))
    assert found.source == "unsteady cameras"
    torch.testing.assert_close(found.rotation @ found.rotation.T, torch.eye(3, dtype=torch.float64))


def test_what_is_no_floor_is_not_taken_for_one() -> None:
    dice = torch.Generator().manual_seed(2)
    cloud = torch.randn(5000, 3, generator=dice)
    assert floor_plane(cloud, Z) is None, "a cloud without surfaces"
    wall = torch.rand(5000, 3, generator=dice) * torch.tensor([4.0, 0.01, 3.0])
    assert floor_plane(wall, Z) is None, "a wall alone"
    ceiling = torch.rand(5000, 3, generator=dice) * torch.tensor([4.0, 4.0, 0.01]) + torch.tensor(
        [0, 0, 2.5]
    )
    beneath = torch.rand(5000, 3, generator=dice) * torch.tensor([4.0, 4.0, 2.5])
    assert floor_plane(torch.cat([ceiling, beneath]), Z) is None, "a ceiling"
    thick = torch.rand(5000, 3, generator=dice) * torch.tensor([4.0, 4.0, 0.3])
    assert floor_plane(torch.cat([thick, beneath]), Z) is None, "a thick layer"
    assert floor_plane(torch.full((500, 3), float("nan")), Z) is None
    assert floor_plane(torch.zeros(500, 3), Z) is None, "all in one place"


def test_a_small_floor_is_taken_where_less_is_asked_for() -> None:
    dice = torch.Generator().manual_seed(2)
    floor = torch.rand(300, 3, generator=dice) * torch.tensor([1.2, 0.9, 0.0])
    sides = torch.rand(6000, 3, generator=dice) * torch.tensor([4.0, 4.0, 2.5])
    sides[:, 1] = torch.where(torch.rand(6000, generator=dice) < 0.5, 0.0, 4.0)
    sides[:, 2] += 0.4  # what stands before walls hides where they begin
    cloud = torch.cat([floor, sides])
    assert floor_plane(cloud, Z) is None
    found = floor_plane(cloud, Z, min_fraction=0.03)
    assert found is not None and abs(found.offset) < 0.05
