"""Adjustment of poses and points: against truth, against wrong matches and against wrong priors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vggt3_ros.landmarks.bundle_adjustment import PosePriors, adjust
from vggt3_ros.landmarks.observations import Observations

CAMERA = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
KEYFRAMES, POINTS = 8, 150


class World:
    """Cameras on an arc that look at a cloud of points, all of which all see, with noise of one
    pixel.
    """

    def __init__(self, seed: int = 0, noise: float = 1.0, focal_error: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.points = rng.uniform((-1.5, -1, 3), (1.5, 1, 6), (POINTS, 3))
        angle = np.linspace(-0.4, 0.4, KEYFRAMES)
        self.poses = np.tile(np.eye(4), (KEYFRAMES, 1, 1))
        self.poses[:, :3, :3] = Rotation.from_rotvec(
            np.stack([0 * angle, -angle, 0 * angle], 1)
        ).as_matrix()
        self.poses[:, :3, 3] = np.stack([4 * np.sin(angle), 0.1 * angle, 4 - 4 * np.cos(angle)], 1)
        self.keyframe, self.point = (
            np.tile(np.arange(KEYFRAMES), POINTS),
            np.repeat(np.arange(POINTS), KEYFRAMES),
        )
        cam = np.einsum(
            "oji,oj->oi",
            self.poses[self.keyframe, :3, :3],
            self.points[self.point] - self.poses[self.keyframe, :3, 3],
        )
        self.pixels = (
            cam[:, :2] / cam[:, 2:] * 500 + CAMERA[:2, 2] + noise * rng.normal(size=(len(cam), 2))
        )
        intrinsics = np.repeat(CAMERA[None], KEYFRAMES, axis=0)
        intrinsics[:, [0, 1], [0, 1]] *= focal_error
        self.observations = Observations(self.keyframe, self.point, self.pixels, intrinsics)
        self.rng = rng

    def shaken(self, metres: float, degrees: float) -> np.ndarray:
        poses = self.poses.copy()
        poses[:, :3, 3] += metres * self.rng.normal(size=(KEYFRAMES, 3))
        turn = Rotation.from_rotvec(np.radians(degrees) * self.rng.normal(size=(KEYFRAMES, 3)))
        poses[:, :3, :3] = poses[:, :3, :3] @ turn.as_matrix()
        return poses

    def priors(self, poses: np.ndarray, metres: float, degrees: float) -> PosePriors:
        return PosePriors(
            poses, np.full(KEYFRAMES, metres), np.full(KEYFRAMES, np.radians(degrees))
        )

    def errors(self, poses: np.ndarray) -> np.ndarray:
        """(K, 6) of position in the world and rotation in the camera frame."""
        turn = Rotation.from_matrix(
            poses[:, :3, :3].swapaxes(1, 2) @ self.poses[:, :3, :3]
        ).as_rotvec()
        return np.concatenate([self.poses[:, :3, 3] - poses[:, :3, 3], turn], axis=1)


def test_shaken_poses_and_points_come_back_and_errors_follow_the_covariance() -> None:
    squares = []
    for seed in range(6):
        world = World(seed)
        start = world.shaken(0.05, 2)
        found = adjust(world.observations, start, world.points + 0.1, world.priors(start, 0.05, 2))
        error = world.errors(found.world_from_cam)
        assert found.converged and np.linalg.norm(error[:, :3], axis=1).max() < 0.15
        assert found.noise_px == pytest.approx(1.0, rel=0.15)
        squares += np.einsum(
            "ki,kij,kj->k", error, np.linalg.inv(found.pose_covariance), error
        ).tolist()
    assert 5.35 / 2 < np.median(squares) < 5.35 * 2


def test_where_the_world_lies_is_no_error_when_its_frame_is_free() -> None:
    world = World()
    priors = world.priors(world.poses, 2, 40)
    loose = adjust(world.observations, world.poses, world.points, priors)
    free = adjust(world.observations, world.poses, world.points, priors, frame_is_free=True)
    np.testing.assert_array_equal(loose.world_from_cam, free.world_from_cam)
    sigma = [
        np.sqrt(np.einsum("kii->k", found.pose_covariance[:, :3, :3])).mean()
        for found in (loose, free)
    ]
    assert sigma[1] < sigma[0] / 10 and sigma[1] > 1e-3


def test_exact_observations_give_the_exact_shape() -> None:
    world = World(noise=0.0)
    start = world.shaken(0.02, 1)
    found = adjust(
        world.observations, start, world.points + 0.05, world.priors(start, 10, 500), noise_px=0.1
    )
    assert np.abs(found.residuals).max() < 1e-3


def test_wrong_matches_lose_their_say() -> None:
    world = World(noise=0.3)
    wild = world.rng.random(len(world.pixels)) < 0.1
    world.pixels[wild] += world.rng.normal(size=(wild.sum(), 2)) * 60
    found = adjust(
        world.observations,
        world.poses,
        world.points,
        world.priors(world.poses, 0.01, 0.5),
        noise_px=0.3,
    )
    assert np.linalg.norm(world.errors(found.world_from_cam)[:, :3], axis=1).max() < 0.01
    assert found.noise_px < 0.45


def test_a_wrong_prior_is_overruled_by_the_images() -> None:
    world = World(noise=0.3)
    start = world.poses.copy()
    start[3, :3, 3] += (0.4, -0.3, 0.2)
    found = adjust(
        world.observations, start, world.points, world.priors(start, 0.01, 0.5), noise_px=0.3
    )
    assert np.linalg.norm(world.errors(found.world_from_cam)[:, :3], axis=1).max() < 0.03
    assert found.prior_deviation[3, 0] > 0.4 and np.median(found.prior_deviation[:, 0]) < 0.03


def test_two_keyframes_that_see_little_do_not_roll_away() -> None:
    world = World(noise=0.3)
    tied = np.isin(world.point, np.arange(3)) & (world.keyframe < 2)
    observations = world.observations.select(
        tied, np.unique(world.point[tied], return_inverse=True)[1]
    )
    found = adjust(
        observations,
        world.poses,
        world.points[:3],
        world.priors(world.poses, 0.02, 1),
        noise_px=0.3,
    )
    assert np.abs(world.errors(found.world_from_cam)).max() < 0.02
    assert np.linalg.eigvalsh(found.pose_covariance).min() > 0


def test_a_common_focal_length_is_found() -> None:
    world = World(noise=0.2, focal_error=1.04)
    priors = world.priors(world.poses, 0.02, 1)
    found = adjust(
        world.observations, world.poses, world.points, priors, noise_px=0.2, refine_focal=True
    )
    assert found.focal * 1.04 == pytest.approx(1, abs=4e-3)
    assert adjust(world.observations, world.poses, world.points, priors, noise_px=0.2).focal == 1


@pytest.mark.parametrize("distance", [1e60, 1e200, np.inf])
def test_points_out_of_reach_leave_poses_and_covariances_that_can_be_used(distance: float) -> None:
    world = World()
    points = world.points.copy()
    points[:, 2] = distance
    with np.errstate(all="ignore"):
        found = adjust(world.observations, world.poses, points, world.priors(world.poses, 0.05, 2))
    assert np.isfinite(found.world_from_cam).all() and np.isfinite(found.pose_covariance).all()
    assert (np.linalg.eigvalsh(found.pose_covariance) > 0).all()


def test_progress_can_cancel() -> None:
    world = World()

    def stop(share: float) -> None:
        assert 0 <= share < 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adjust(
            world.observations,
            world.poses,
            world.points,
            world.priors(world.poses, 1, 1),
            progress=stop,
        )
