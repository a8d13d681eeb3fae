"""Where arrays and tensors meet: landmarks compute in NumPy, since SciPy, OpenCV and COLMAP take
arrays; geometry, the network and all that uses it compute in torch.

The pipeline hands over and takes back through to_array, to_tensor and LandmarkTensors; what
landmarks need of geometry is here as functions of arrays. Both sides share memory: what is handed
over must not be written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.se3 import (
    chordal_mean,
    quaternion_from_rotation,
    rotation_angle,
    rotation_from_quaternion,
    se3,
    se3_inverse,
)
from vggt3_ros.geometry.sim3 import Sim3, fit_poses, fit_roughly, robust_umeyama
from vggt3_ros.geometry.uncertainty import pose_error_vector

if TYPE_CHECKING:
    from vggt3_ros.landmarks.landmarks import Landmarks


def to_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor on the CPU, of the same type."""
    return torch.from_numpy(array)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor, which lies on the CPU, as an array of the same type."""
    array: NDArray[Any] = tensor.numpy()
    return array


class LandmarkTensors:
    """Landmarks as tensors on a device: each is made when it is asked for."""

    def __init__(self, landmarks: Landmarks, device: torch.device | str = "cpu") -> None:
        self._landmarks = landmarks
        self._device = device

    @property
    def world_from_cam(self) -> Tensor:
        """Poses (K, 4, 4) float64 of the keyframes."""
        return to_tensor(self._landmarks.world_from_cam).to(self._device)

    @property
    def intrinsics(self) -> Tensor:
        """Intrinsics (K, 3, 3) float64 of the keyframes, in pixels of the undistorted images."""
        return to_tensor(self._landmarks.intrinsics).to(self._device)

    @property
    def positions(self) -> Tensor:
        """Positions (N, 3) float32 of the landmarks."""
        return to_tensor(self._landmarks.positions).to(self._device)

    @property
    def observed(self) -> Tensor:
        """The landmark (O,) int64 of each observation."""
        return to_tensor(self._landmarks.observed).long().to(self._device)

    @property
    def observed_from(self) -> Tensor:
        """The keyframe (O,) int64 of each observation."""
        return to_tensor(self._landmarks.observed_from).long().to(self._device)


def pose_error(estimated: Floats, true: Floats) -> Floats:
    """Error (6,) of a pose (4, 4): see geometry.uncertainty.pose_error_vector."""
    return to_array(pose_error_vector(to_tensor(estimated), to_tensor(true)))


def pose_distances(estimated: Floats, true: Floats) -> Floats:
    """Distance and angle in rad (K, 2) between poses (K, 4, 4)."""
    pairs = zip(to_tensor(estimated), to_tensor(true), strict=True)
    errors = torch.stack([pose_error_vector(*pair) for pair in pairs])
    return to_array(errors.reshape(-1, 2, 3).norm(dim=2))


def transformed_poses(a_from_b: Sim3, poses: Floats) -> Floats:
    """Poses (K, 4, 4) in frame a of poses in frame b."""
    return to_array(a_from_b.poses(to_tensor(poses)))


def transformed_points(a_from_b: Sim3, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (N, 3) in frame a of points in frame b, computed in double."""
    moved = a_from_b.points(to_tensor(points).double())
    return to_array(moved).astype(np.float32)


def robust_similarity(source: Floats, target: Floats) -> Sim3:
    """target_from_source of poses (K, 4, 4), some of which may be wrong; InputError where nothing
    determines it.
    """
    return robust_umeyama(to_tensor(source), to_tensor(target)).target_from_source


def any_similarity(source: Floats, target: Floats) -> Sim3:
    """target_from_source of poses (K, 4, 4): the robust one, else that of all; where they do not
    even move alike, the targets tell no more than where and how large.
    """
    poses = (to_tensor(source), to_tensor(target))
    try:
        return robust_umeyama(*poses).target_from_source
    except InputError:
        pass
    try:
        return fit_poses(*poses)
    except InputError:
        return fit_roughly(*poses)


def rotation_spread(rotations: Floats) -> float:
    """Rms angle in rad of rotations (K, 3, 3) from their mean."""
    tensors = to_tensor(rotations)
    angle = rotation_angle(chordal_mean(tensors).T @ tensors)
    return float(angle.square().mean().sqrt())


def quaternion_poses(poses: Floats) -> tuple[Floats, Floats]:
    """Quaternions x y z w (K, 4) and translations (K, 3) of b_from_a; poses (K, 4, 4) are
    a_from_b.
    """
    inverse = se3_inverse(to_tensor(poses))
    quaternions = quaternion_from_rotation(inverse[:, :3, :3])
    return to_array(quaternions), to_array(inverse[:, :3, 3])


def pose_from_quaternion(quaternion: Floats, translation: Floats) -> Floats:
    """a_from_b (4, 4) of the quaternion x y z w (4,) and the translation (3,) of b_from_a."""
    rotation = rotation_from_quaternion(to_tensor(quaternion))
    return to_array(se3_inverse(se3(rotation, to_tensor(translation))))
