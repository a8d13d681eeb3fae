"""What landmarks need of geometry, as functions of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks import tensors

from ..geometry.test_se3 import random_poses

POSES = tensors.to_array(random_poses(6))
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_distances_are_metres_and_radians() -> None:
    moved = POSES.copy()
    moved[:, :3, 3] += (0, 3, 4)
    moved[:, :3, :3] = moved[:, :3, :3] @ QUARTER
    np.testing.assert_allclose(tensors.pose_distances(POSES, moved), [[5, np.pi / 2]] * 6)
    error = tensors.pose_error(POSES[0], moved[0])
    np.testing.assert_allclose(error, [0, 3, 4, 0, 0, np.pi / 2], atol=1e-9)


def test_quaternions_lead_back_to_the_poses() -> None:
    quaternions, translations = tensors.quaternion_poses(POSES)
    for pose, *rest in zip(POSES, quaternions, translations, strict=True):
        np.testing.assert_allclose(tensors.pose_from_quaternion(*rest), pose, atol=1e-9)


def test_poses_that_stand_still_tell_where_a_robust_similarity_cannot() -> None:
    still = POSES.copy()
    still[:, :3, 3] = (1, 2, 3)
    with pytest.raises(InputError):
        tensors.robust_similarity(POSES, still)
    found = tensors.any_similarity(POSES, still)
    middle = tensors.transformed_poses(found, POSES)[:, :3, 3].mean(0)
    np.testing.assert_allclose(middle, (1, 2, 3))


def test_points_are_transformed_in_double() -> None:
    identity = Sim3.identity()
    near_from_far = Sim3(1.0, identity.rotation, identity.translation + 1e8 + 0.1)
    near = tensors.transformed_points(near_from_far, np.full((2, 3), -1e8, np.float32))
    np.testing.assert_allclose(near, 0.1, atol=1e-6)


def test_both_sides_share_memory() -> None:
    array = np.zeros(3)
    tensor = tensors.to_tensor(array)
    tensor[0] = 1.0
    assert array[0] == 1.0 and np.shares_memory(tensors.to_array(tensor), array)
