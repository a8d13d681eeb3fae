"""An edited scene is the same place: all that depends on an edit follows it, or it is said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.dense.shape import camera_points
from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.pnp import reprojection_errors
from vggt3_ros.maps.edit import (
    Edited,
    Measured,
    cropped,
    descendant,
    rotated_to_floor,
    scaled,
    without_keyframes,
)
from vggt3_ros.maps.transform import transformed
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Parent, Scene
from vggt3_ros.scene.verification import MapVerdict

from ..pipeline.dotted import dotted_scene

HALF = ((-2.0, -2.0, -2.0), (2.0, 2.0, 0.8))  # most of the map


def with_depth(scene: Scene) -> Scene:
    """The scene with depth of the plane Y = 0.5, which all keyframes look at, and points on it."""
    poses = scene.map_from_keyframes
    intrinsics = torch.tensor([[40.0, 0, 24], [0, 40, 18], [0, 0, 1]]).double().repeat(5, 1, 1)
    rays = camera_points(torch.ones(5, 36, 48), intrinsics).double()
    steps = (rays.flatten(1, 2) @ poses[:, :3, :3].transpose(1, 2))[..., 1]
    depth = ((0.5 - poses[:, 1, 3:]) / steps).view(5, 36, 48).float()
    kept = KeyframeDepth(depth, torch.ones(5, 36, 48).byte(), intrinsics, poses)
    points = world_points(kept).flatten(0, 1)[::7].float()
    cloud = PointCloud(points, torch.zeros(len(points), 3).byte(), torch.ones(len(points)))
    planes = {"planes": [{"plane": [0.0, 1.0, 0.0, -0.5], "share": 1.0}], "size_wh": [48, 36]}
    return replace(
        scene,
        depth=kept,
        points=cloud,
        has_refined_points=True,
        report={"depth": planes, "floor_z": -0.25, "residual_px": 0.5},
    )


def world_points(depth: KeyframeDepth) -> Tensor:
    """Where pixels (S, h * w, 3) are in the map."""
    seen = camera_points(depth.depth, depth.intrinsics).double().flatten(1, 2)
    return transform_points(depth.world_from_cam, seen)


def residuals(scene: Scene) -> np.ndarray:
    """Reprojection errors in pixels of all observations."""
    landmarks = Landmarks.from_tensors(scene.landmarks)
    return np.concatenate(
        [
            reprojection_errors(
                landmarks.world_from_cam[row],
                landmarks.positions[landmarks.seen_from(row)].astype(np.float64),
                landmarks.pixels[landmarks.observed_from == row].astype(np.float64),
                landmarks.intrinsics[row],
            )
            for row in range(len(landmarks.world_from_cam))
        ]
    )


def similarity() -> Sim3:
    turn = rotation_from_axis_angle(torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64))
    return Sim3(2.5, turn, torch.tensor([3.0, -1, 0.5], dtype=torch.float64))


def test_everything_moves_with_the_map_frame() -> None:
    old = replace(with_depth(dotted_scene()), metric_residual_m=0.1)
    new_from_map = similarity()
    new = transformed(old, new_from_map)
    assert old.depth is not None and new.depth is not None
    moved = new_from_map.poses(old.map_from_keyframes)
    torch.testing.assert_close(new.map_from_keyframes, moved)
    torch.testing.assert_close(new.depth.world_from_cam, moved)
    expected = new_from_map.points(old.points.points.double()).float()
    torch.testing.assert_close(new.points.points, expected)
    torch.testing.assert_close(
        world_points(new.depth), new_from_map.points(world_points(old.depth)), atol=1e-4, rtol=0
    )
    assert np.allclose(residuals(new), residuals(old), atol=1e-2)
    network = se3_inverse(old.keyframes.cam_from_world)
    torch.testing.assert_close(
        new.map_from_scene.poses(network), new_from_map.poses(old.map_from_scene.poses(network))
    )
    assert old.calibration is not None and new.calibration is not None
    assert new.calibration.depth_scale == 2.5 * old.calibration.depth_scale
    assert new.metric_residual_m == pytest.approx(0.25)
    assert new.bounds[0] == tuple(new.points.points.double().amin(0).tolist())
    assert new.report["floor_z"] == pytest.approx(2.5 * -0.25 + 0.5)
    plane = torch.tensor(new.report["depth"]["planes"][0]["plane"], dtype=torch.float64)
    heights = new.points.points.double() @ plane[:3] + plane[3]
    assert float(plane[:3].norm()) == pytest.approx(1) and float(heights.abs().max()) < 1e-4
    assert float(old.map_from_keyframes[0, 0, 3]) != float(moved[0, 0, 3])


def test_covariances_of_poses_and_landmarks_grow_with_the_map() -> None:
    old = Landmarks.from_tensors(dotted_scene().landmarks)
    new = Landmarks.from_tensors(transformed(dotted_scene(), similarity()).landmarks)
    spread = [np.linalg.norm(each.covariance_roots.astype(np.float64)) for each in (old, new)]
    assert spread[1] == pytest.approx(2.5 * spread[0], rel=1e-2)
    deviations = [np.sqrt(np.trace(each.pose_covariance[0, :3, :3])) for each in (old, new)]
    assert deviations[1] == pytest.approx(2.5 * deviations[0], rel=1e-4)


def test_what_only_dropped_keyframes_saw_goes_with_them() -> None:
    scene = with_depth(dotted_scene())
    edited = without_keyframes(Edited(scene), ["a.jpg", "é"])
    left = edited.scene
    assert left.keyframes.names == ("left/b.jpg", "c", "right/c")
    assert left.keyframes.stamps_ns == scene.keyframes.stamps_ns[1:4]
    torch.testing.assert_close(left.map_from_keyframes, scene.map_from_keyframes[1:4])
    assert left.images is not None and scene.images is not None and left.depth is not None
    assert torch.equal(left.images, scene.images[1:4])
    landmarks = Landmarks.from_tensors(left.landmarks)
    assert np.bincount(landmarks.observed, minlength=len(landmarks)).min() >= 2
    whole = residuals(scene)
    first = int((scene.landmarks["observed_from"] == 0).sum())
    assert np.allclose(residuals(left), whole[first:], atol=1e-3)
    assert 0 < len(left.points) < len(scene.points)
    seen = world_points(left.depth).flatten(0, 1)
    apart = torch.cdist(left.points.points.double(), seen).amin(1)
    assert float(apart.max()) < 0.15
    assert left.calibration is not None and len(left.calibration.image_sizes_wh) == 3
    assert edited.is_memory_stale and "dropped 2 of 5 keyframes" in edited.done[0]
    assert left.verdict.verified and "left by editing a larger map" in left.verdict.reason
    assert left.report["floor_z"] == -0.25 and "residual_px" not in left.report


def test_points_of_maps_without_depth_stay_where_kept_keyframes_look() -> None:
    scene = dotted_scene()
    behind = scene.map_from_keyframes[1, :3, 3] - scene.map_from_keyframes[1, :3, 2]
    points = torch.cat([scene.points.points, behind[None].float()])
    cloud = PointCloud(points, torch.zeros(len(points), 3).byte(), torch.ones(len(points)))
    left = without_keyframes(Edited(replace(scene, points=cloud)), ["a.jpg"]).scene
    assert len(left.points) == len(scene.points)


def test_a_crop_holds_nothing_outside_of_its_box() -> None:
    scene = with_depth(dotted_scene())
    low, high = HALF
    edited = cropped(Edited(scene), low, high)
    left = edited.scene
    assert left.depth is not None
    assert 0 < len(left.points) < len(scene.points)
    assert float(left.points.points[:, 2].max()) <= high[2]
    assert float(left.landmarks["positions"][:, 2].max()) <= high[2]
    assert 50 <= len(left.landmarks["positions"]) < 60
    known = left.depth.depth > 0
    heights = world_points(left.depth)[..., 2].view_as(left.depth.depth)
    assert 0 < int(known.sum()) < known.numel() and float(heights[known].max()) <= high[2] + 1e-5
    assert bool((left.depth.provenance[~known] == 0).all())
    assert left.bounds[1][2] <= high[2]
    # the last keyframe observes nothing
    assert left.keyframes.names == scene.keyframes.names[:4] and edited.is_memory_stale
    assert "images, which show it" in edited.does_not_follow[0]


def test_a_crop_of_a_map_without_landmarks_keeps_who_stands_in_it() -> None:
    scene = replace(dotted_scene(), landmarks={}, verdict=MapVerdict(False, "none"))
    x = scene.map_from_keyframes[:, 0, 3]
    low, high = (float(x[1]) - 0.1, -9.0, -9.0), (9.0, 9.0, 9.0)
    left = cropped(Edited(scene), low, high).scene
    assert left.keyframes.names == scene.keyframes.names[1:]


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        ((0, 0, 0), (1, 0, 1), "lowest and a highest corner"),
        ((5, 5, 5), (6, 6, 6), r"holds no point of the map, which lies between \[-1.0, -1.0"),
        ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), "would leave 0 keyframes"),
        ((-1, -1, -1), (1, 1, 0.2), "landmarks would be left, 50 are needed"),
        ((float("nan"), 0, 0), (1, 1, 1), "lowest and a highest corner"),
    ],
)
def test_boxes_that_leave_no_map_are_refused(low: tuple, high: tuple, why: str) -> None:
    with pytest.raises(InputError, match=why):
        cropped(Edited(dotted_scene()), low, high)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["nobody", "c"], "--drop-keyframes: unknown keyframes \\['nobody'\\]"),
        (["a.jpg", "left/b.jpg", "c", "é"], "would leave 1 keyframes; a scene needs 2"),
        (["a.jpg", "left/b.jpg", "right/c"], "of 60 landmarks would be left, 50 are needed"),
    ],
)
def test_dropping_too_much_is_refused(names: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        without_keyframes(Edited(dotted_scene()), names)


def on_a_floor(tilt: float) -> Scene:
    """Cameras above a floor, and a map frame that is tilted and lies 0.7 above it."""
    scene = replace(dotted_scene(), landmarks={}, verdict=MapVerdict(False, "none"))
    dice = torch.Generator().manual_seed(0)
    floor = torch.rand(3000, 3, generator=dice) * torch.tensor([8.0, 8, 0]) - torch.tensor(
        [4.0, 4, 0.7]
    )
    walls = torch.rand(2000, 3, generator=dice) * torch.tensor([8.0, 0, 2]) + torch.tensor(
        [-4.0, 4, -0.7]
    )
    points = torch.cat([floor, walls])
    cloud = PointCloud(points, torch.zeros(len(points), 3).byte(), torch.ones(len(points)))
    turn = rotation_from_axis_angle(torch.tensor([tilt, 0.0, 0.0], dtype=torch.float64))
    return transformed(replace(scene, points=cloud), Sim3(1.0, turn, torch.zeros(3).double()))


def test_the_floor_becomes_level_and_the_heading_stays() -> None:
    scene = on_a_floor(0.3)
    edited = rotated_to_floor(Edited(scene))
    level = edited.scene
    heights = level.points.points[:3000, 2]
    assert float(heights.abs().max()) < 0.01
    assert float(level.points.points[:, 2].max()) == pytest.approx(2, abs=0.01)
    assert level.up_source == "floor" and level.report["floor_z"] == 0
    assert f"turned by {math.degrees(0.3):.1f}" in edited.done[0]
    x = level.map_from_keyframes[:, 0, 3]  # about which it was tilted
    torch.testing.assert_close(x, scene.map_from_keyframes[:, 0, 3], atol=0.01, rtol=0)


def test_without_a_floor_nothing_is_guessed() -> None:
    scene = on_a_floor(0.0)
    with pytest.raises(SceneError, match="no floor is found among the 2000 points"):
        rotated_to_floor(Edited(replace(scene, points=scene.points[torch.arange(3000, 5000)])))


def test_a_measured_distance_makes_metres() -> None:
    scene = replace(dotted_scene(), is_metric=False, metric_source="none: nothing tells")
    edited = scaled(Edited(scene), [Measured("a.jpg", "right/c", 8.0)], scene)
    metric = edited.scene
    ends = metric.map_from_keyframes[[0, 3], :3, 3]
    assert float((ends[0] - ends[1]).norm()) == pytest.approx(8.0)
    assert metric.is_metric and metric.metric_source == "measured distances"
    assert metric.metric_residual_m is None and not edited.is_memory_stale
    assert np.allclose(residuals(metric), residuals(scene), atol=1e-2)


def test_several_distances_are_kept_as_well_as_possible() -> None:
    scene = dotted_scene()
    positions = scene.map_from_keyframes[:, :3, 3]
    apart = [float((positions[0] - positions[row]).norm()) for row in (1, 3)]
    distances = [Measured("a.jpg", "left/b.jpg", 2 * apart[0] + 0.1)]
    distances.append(Measured("a.jpg", "right/c", 2 * apart[1] - 0.05))
    edited = scaled(Edited(scene), distances, scene)
    factor = edited.scene.map_from_scene.scale
    wrong = [factor * each - given.metres for each, given in zip(apart, distances, strict=True)]
    assert edited.scene.metric_residual_m == pytest.approx(math.hypot(*wrong) / math.sqrt(2))
    assert 0.02 < edited.scene.metric_residual_m < 0.1 and factor == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("a.jpg", "b.jpg", r"--scale: unknown keyframes \['b.jpg'\]; did you mean"),
        ("c", "c", "stand at one place, so their distance tells no scale"),
        ("a.jpg", "é", "no landmarks say where keyframe 'é' stands"),
    ],
)
def test_distances_that_tell_no_scale_are_refused(first: str, second: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        scaled(Edited(dotted_scene()), [Measured(first, second, 1.0)], dotted_scene())


def test_a_name_of_several_keyframes_is_refused() -> None:
    scene = dotted_scene()
    twice = replace(scene, keyframes=replace(scene.keyframes, names=("a", "a", "c", "d", "e")))
    with pytest.raises(InputError, match="2 keyframes are called 'a'"):
        scaled(Edited(twice), [Measured("c", "a", 1.0)], twice)


def test_the_edited_scene_names_its_parent_and_is_nobodys() -> None:
    scene = replace(dotted_scene(), made_by="/robot1/vggt3/mapper in domain 7")
    cut = without_keyframes(Edited(scene), ["é"])
    (parent,) = descendant(cut, scene, "monday").parents
    assert descendant(cut, scene, "monday").made_by == ""
    assert parent == Parent(scene.scene_id, "monday", same_frame=True)
    metric = scaled(cut, [Measured("a.jpg", "c", 1.0)], scene)
    made = descendant(metric, scene, "monday")
    assert not made.parents[0].same_frame and made.scene_id != scene.scene_id
