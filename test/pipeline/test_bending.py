from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_angle, rotation_from_axis_angle, se3
from vggt3_ros.geometry.sim3 import Sim3, robust_umeyama
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.worlds.sequence import room_sequence

SCENE_FROM_MAP = Sim3(
    0.4,
    rotation_from_axis_angle(torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)),
    torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
)


@cache
def drive(seed: int) -> tuple[Tensor, Tensor]:
    """True poses (24, 4, 4) of a robot's keyframes in a room, and (24, 4, 4) of frames in
    between.
    """
    poses = room_sequence(seed, map_frames=48, query_frames=0, height=12, width=16).world_from_cam
    return poses[::2], poses[1::2]


def seen_by_network(poses: Tensor, bend: float, noise: float = 0.0) -> Tensor:
    """Poses as a network with drift sees them: the X axis of the map becomes an arc of `bend`
    rad/m, then noise (m).
    """
    x, y, z = poses[:, :3, 3].unbind(-1)
    angle = bend * x
    turn = rotation_from_axis_angle(torch.stack([0 * x, 0 * x, angle], dim=-1))
    arc = torch.stack(
        [angle.sin() / bend - y * angle.sin(), (1 - angle.cos()) / bend + y * angle.cos(), z],
        dim=-1,
    )
    dice = torch.Generator().manual_seed(0)
    jitter = noise * torch.randn(2, *arc.shape, generator=dice, dtype=torch.float64)
    turn = turn @ rotation_from_axis_angle(jitter[0])
    return SCENE_FROM_MAP.poses(se3(turn @ poses[:, :3, :3], arc + jitter[1]))


def errors(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Rms position error in metres and median rotation error in degrees."""
    angle = rotation_angle(found[:, :3, :3].transpose(-1, -2) @ truth[:, :3, :3])
    return float((found - truth)[:, :3, 3].square().sum(1).mean().sqrt()), math.degrees(
        float(angle.median())
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_what_bends_smoothly_is_straightened_between_the_keyframes(seed: int) -> None:
    keyframes, between = drive(seed)
    bending = Bending.fit(seen_by_network(keyframes, 0.1), keyframes)
    queries = seen_by_network(between, 0.1)
    before, after = (
        errors(found, between)
        for found in (bending.map_from_scene.poses(queries), bending.map_from_cam(queries))
    )
    assert after[0] < 0.2 * before[0] and after[1] < 0.2 * before[1], (before, after)
    report = bending.report()
    assert (
        report["keyframes"] == 24
        and report["position_rms_after"] < 0.2 * report["position_rms_before"]
    )
    assert report["rotation_median_deg_after"] < 0.2 * report["rotation_median_deg_before"]
    assert report["position_rms_before"] == pytest.approx(before[0], rel=0.3)


def test_without_bending_the_similarity_is_all_and_noise_is_not_followed() -> None:
    keyframes, between = drive(0)
    exact = Bending.fit(SCENE_FROM_MAP.poses(keyframes), keyframes)
    torch.testing.assert_close(
        exact.map_from_cam(SCENE_FROM_MAP.poses(between)), between, rtol=0, atol=1e-6
    )
    noisy = Bending.fit(seen_by_network(keyframes, 1e-6, noise=0.05), keyframes)
    queries = SCENE_FROM_MAP.poses(between)
    plain, bent = (
        errors(noisy.map_from_scene.poses(queries), between),
        errors(noisy.map_from_cam(queries), between),
    )
    assert bent[0] < plain[0] + 0.01 and bent[1] < plain[1] + 0.3, (plain, bent)


def test_far_from_all_keyframes_nothing_is_corrected() -> None:
    keyframes, _ = drive(0)
    bending = Bending.fit(seen_by_network(keyframes, 0.1), keyframes)
    far = SCENE_FROM_MAP.poses(keyframes[0])
    far[:3, 3] += 100
    torch.testing.assert_close(bending.map_from_cam(far), bending.map_from_scene.poses(far))
    assert bending.map_from_cam(far).shape == (4, 4)


def test_the_same_poses_give_the_same_bending_when_a_scene_is_loaded() -> None:
    keyframes, between = drive(1)
    scene = seen_by_network(keyframes, 0.1, 0.02)
    first, second = (
        Bending.fit(scene.clone(), keyframes.clone()).map_from_cam(between) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_a_network_that_sees_no_motion_falls_back_to_the_given_scale() -> None:
    keyframes, between = drive(0)
    collapsed = keyframes[:1].repeat(len(keyframes), 1, 1)
    found = Bending.fit(collapsed, keyframes, fallback_scale=2.5)
    assert found.map_from_scene.scale == 2.5
    assert bool(found.map_from_cam(between).isfinite().all())
    assert Bending.fit(collapsed, keyframes).map_from_scene.scale == 1.0
    dice = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.randn(len(keyframes), 3, generator=dice, dtype=torch.float64)
    random = se3(keyframes[:, :3, :3], 0.1 * keyframes[:, :3, 3] + noise)
    assert robust_umeyama(random, keyframes).target_from_source.scale < 1, (
        "there is a fit, but it explains nothing"
    )
    assert Bending.fit(random, keyframes, fallback_scale=2.5).map_from_scene.scale == 2.5
    for count in (1, 2):
        few = Bending.fit(
            SCENE_FROM_MAP.poses(keyframes[:count]), keyframes[:count], fallback_scale=2.5
        )
        assert few.map_from_scene.scale == 2.5 and bool(few.map_from_cam(between).isfinite().all())
