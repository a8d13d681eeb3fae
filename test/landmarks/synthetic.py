"""Small landmarks without any image: cameras on an arc that look at a cloud of points."""

from __future__ import annotations

import numpy as np
import torch

from vggt3_ros.geometry.camera import intrinsics_matrix, project
from vggt3_ros.geometry.se3 import look_at, se3_inverse, transform_points
from vggt3_ros.landmarks.landmarks import Landmarks

SIZE_WH = (640, 480)
NOISE_PX = 0.5


def synthetic_landmarks(keyframes: int = 5, points: int = 60, seed: int = 0) -> Landmarks:
    """Each keyframe sees all points but every seventh, to `NOISE_PX`; the last one has another
    focal length.
    """
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-1, 1, (points, 3)).astype(np.float32)
    angles = torch.linspace(-0.6, 0.6, keyframes, dtype=torch.float64)
    positions = torch.stack([4 * angles.sin(), -4 * angles.cos(), 0.3 * angles], dim=-1)
    poses = look_at(positions, torch.zeros(3).double(), torch.tensor([0.0, 0.0, 1.0]).double())
    intrinsics = intrinsics_matrix(500.0, 510.0, 318.5, 241.25).repeat(keyframes, 1, 1)
    intrinsics[-1, :2, :2] *= 1.2
    pixels, _ = project(
        transform_points(se3_inverse(poses), torch.from_numpy(cloud).double()), intrinsics
    )
    keyframe, point = np.nonzero((np.arange(points) + np.arange(keyframes)[:, None]) % 7 > 0)
    noisy = pixels.numpy()[keyframe, point] + NOISE_PX * rng.standard_normal((len(point), 2))
    return Landmarks(
        world_from_cam=poses.numpy(),
        pose_covariance=np.tile(1e-6 * np.eye(6, dtype=np.float32), (keyframes, 1, 1)),
        intrinsics=intrinsics.numpy(),
        keyframe_descriptors=np.zeros((keyframes, 8), np.int8),
        positions=cloud,
        covariance_roots=np.tile(0.01 * np.eye(3, dtype=np.float16), (points, 1, 1)),
        descriptors=rng.integers(0, 90, (points, 128)).astype(np.uint8),
        repeated=np.zeros(points, dtype=bool),
        observed_from=keyframe.astype(np.int32),
        observed=point.astype(np.int32),
        pixels=noisy.astype(np.float32),
        vocabulary=np.zeros((4, 128), np.float32),
        noise_px=NOISE_PX,
    )
