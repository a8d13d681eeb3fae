from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import encode_camera, project, unproject
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.depth_scale import anchor_depths, anchored
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

KEYFRAMES = 10
MAP_FROM_SCENE = Sim3(
    2.5,
    rotation_from_axis_angle(torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)),
    torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
)


@cache
def room() -> RoomSequence:
    return room_sequence(1, map_frames=KEYFRAMES, query_frames=0, height=72, width=96)


def truth() -> tuple[Tensor, Tensor]:
    """Exact depth (10, 72, 96) in metres and intrinsics (10, 3, 3)."""
    return torch.from_numpy(room().depth).double(), room().intrinsics.expand(KEYFRAMES, 3, 3)


@cache
def landmarks(per_keyframe: int = 60) -> Landmarks:
    """Exact landmarks: random pixels of each keyframe, observed from all keyframes that see
    them.
    """
    depth, intrinsics = truth()
    poses, dice = room().world_from_cam, torch.Generator().manual_seed(0)
    points = transform_points(poses, unproject(depth, intrinsics).flatten(1, 2))
    pick = torch.randint(points.shape[1], (KEYFRAMES, per_keyframe), generator=dice)
    positions = torch.cat([points[k, pick[k]] for k in range(KEYFRAMES)])
    pixels, z = project(
        transform_points(se3_inverse(poses), positions.expand(KEYFRAMES, -1, -1)), intrinsics
    )
    column, row = pixels.round().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < 96) & (row >= 0) & (row < 72)
    index = row.clamp(0, 71) * 96 + column.clamp(0, 95)
    seen = inside & ((depth.flatten(1).gather(1, index) / z - 1).abs() < 0.02)
    keyframe, landmark = seen.nonzero(as_tuple=True)
    count = len(positions)
    return Landmarks(
        world_from_cam=poses.numpy(),
        pose_covariance=np.zeros((KEYFRAMES, 6, 6), np.float32),
        intrinsics=intrinsics.numpy(),
        keyframe_descriptors=np.zeros((KEYFRAMES, 4), np.float32),
        positions=positions.float().numpy(),
        covariance_roots=np.zeros((count, 3, 3), np.float16),
        descriptors=np.zeros((count, 128), np.uint8),
        repeated=np.zeros(count, dtype=bool),
        observed_from=keyframe.int().numpy(),
        observed=landmark.int().numpy(),
        pixels=pixels[seen].float().numpy(),
        vocabulary=np.zeros((1, 128), np.float32),
        noise_px=0.5,
    )


def network_view(spread: float) -> tuple[Prediction, Tensor]:
    """What a network might say in scene units: each keyframe's depth off by its own factor (10,),
    poses off by 5 cm.
    """
    depth, intrinsics = truth()
    dice = torch.Generator().manual_seed(7)
    factor = (spread * torch.randn(KEYFRAMES, generator=dice, dtype=torch.float64)).exp()
    pixels = (0.05 * torch.randn(depth.shape, generator=dice, dtype=torch.float64)).exp()
    poses = room().world_from_cam.clone()
    poses[:, :3, 3] += 0.05 * torch.randn(KEYFRAMES, 3, generator=dice, dtype=torch.float64)
    scene_from_cam = MAP_FROM_SCENE.inverse().poses(poses)
    seen = depth * pixels / factor[:, None, None] / MAP_FROM_SCENE.scale
    points = transform_points(scene_from_cam, unproject(seen, intrinsics).flatten(1, 2)).view(
        *seen.shape, 3
    )
    encoding = encode_camera(se3_inverse(scene_from_cam), intrinsics, (72, 96))
    ones = torch.ones(seen.shape)
    return Prediction(encoding.float(), seen.float(), ones, points.float(), ones), factor


def test_every_keyframes_depth_is_scaled_to_its_landmarks() -> None:
    prediction, factor = network_view(spread=0.25)
    found = anchor_depths(prediction.depth, landmarks(), truth()[1])
    torch.testing.assert_close(found.scale / MAP_FROM_SCENE.scale, factor, rtol=0.03, atol=0)
    assert found.error_before is not None and found.error_before > 0.1
    assert found.error_after is not None and found.error_after < 0.05
    assert int(found.observations.min()) >= 60


def test_where_keyframes_agree_and_observations_are_few_the_common_scale_holds() -> None:
    prediction, _ = network_view(spread=0.0)
    found = anchor_depths(prediction.depth, landmarks(), truth()[1])
    torch.testing.assert_close(
        found.scale, torch.full_like(found.scale, MAP_FROM_SCENE.scale), rtol=0.01, atol=0
    )
    assert found.error_before is not None and found.error_after is not None
    assert found.error_after < 1.1 * found.error_before

    prediction, factor = network_view(spread=0.25)
    whole = landmarks()
    few = np.nonzero(whole.observed_from == 4)[0][7:]  # the fifth keyframe keeps 7 observations
    kept = np.setdiff1d(np.arange(len(whole.observed)), few)
    arrays = {**whole.tensors()}
    for name in ("observed_from", "observed", "pixels"):
        arrays[name] = arrays[name][torch.from_numpy(kept)]
    found = anchor_depths(prediction.depth, Landmarks.from_tensors(arrays), truth()[1])
    assert int(found.observations[4]) == 7 and float(found.scale[4]) == pytest.approx(
        found.scene_scale
    )
    assert float(found.scale[5]) == pytest.approx(float(factor[5]) * MAP_FROM_SCENE.scale, rel=0.03)


def test_depth_that_cannot_be_compared_keeps_the_fallback_scale() -> None:
    found = anchor_depths(
        torch.full((KEYFRAMES, 72, 96), torch.nan), landmarks(), truth()[1], fallback_scale=3.0
    )
    assert found.scale.tolist() == [3.0] * KEYFRAMES and found.scene_scale == 3.0
    assert found.error_before is None and found.error_after is None
    with pytest.raises(InputError, match="10 keyframes of landmarks but 3 depth images"):
        anchor_depths(torch.ones(3, 72, 96), landmarks(), truth()[1])


def test_the_anchored_prediction_has_adjusted_cameras_and_points_on_the_surfaces() -> None:
    prediction, _ = network_view(spread=0.25)
    depth, intrinsics = truth()
    scales = anchor_depths(prediction.depth, landmarks(), intrinsics).scale
    poses = room().world_from_cam
    found = anchored(prediction, scales, poses, MAP_FROM_SCENE, intrinsics)
    torch.testing.assert_close(
        MAP_FROM_SCENE.poses(found.cameras.world_from_cam), poses, rtol=0, atol=1e-9
    )
    torch.testing.assert_close(found.cameras.intrinsics, intrinsics, rtol=1e-9, atol=1e-9)
    surface = transform_points(poses, unproject(depth, intrinsics).flatten(1, 2)).view(
        *depth.shape, 3
    )

    def off(points: Tensor) -> float:
        return float((MAP_FROM_SCENE.points(points.double()) - surface).norm(dim=-1).median())

    assert prediction.pointmap is not None and found.pointmap is not None
    assert off(prediction.pointmap) > 0.2
    from_depth = found.cameras.points(found.depth)
    assert off(from_depth) < 0.12 and off(found.pointmap) < 0.12
    torch.testing.assert_close(found.pointmap, from_depth, rtol=0, atol=1e-4)
