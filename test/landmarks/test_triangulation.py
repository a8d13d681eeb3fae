from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.landmarks.landmarks import are_determined, lower_roots
from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.triangulation import rays_of, refine_points, triangulate

INTRINSICS = np.tile([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]], (3, 1, 1))


def cameras(*x: float) -> np.ndarray:
    """Cameras (K, 4, 4) that stand beside each other and look along z."""
    poses = np.tile(np.eye(4), (len(x), 1, 1))
    poses[:, 0, 3] = x
    return poses


def seen_by_all(poses: np.ndarray, points: np.ndarray) -> Observations:
    keyframe, point = (
        np.tile(np.arange(len(poses)), len(points)),
        np.repeat(np.arange(len(points)), len(poses)),
    )
    cam = points[point] - poses[keyframe, :3, 3]
    with np.errstate(all="ignore"):
        pixels = 500 * cam[:, :2] / cam[:, 2:] + [320, 240]
    return Observations(keyframe, point, np.nan_to_num(pixels, posinf=1e9, neginf=-1e9), INTRINSICS)


def test_points_are_refined_with_the_deviation_that_noise_gives_them():
    poses, points = cameras(-0.5, 0.0, 0.5), np.array([[0.1, 0.2, 4.0], [-0.3, 0.1, 6.0]])
    observations = seen_by_all(poses, points)
    found, covariance = refine_points(
        observations, poses, points + [0.02, -0.01, 0.1], 0.5, rounds=6
    )
    assert np.abs(found - points).max() < 1e-6
    depth = np.sqrt(covariance[:, 2, 2])
    assert np.allclose(depth, 0.5 * points[:, 2] ** 2 / (500 * np.sqrt(0.5)), rtol=0.05)


@pytest.mark.parametrize(
    ("x", "degenerate"),
    [
        ((0.0, 0.0, 0.0), [0.0, 0.0, 3.0]),  # seen along one line
        ((-0.5, 0.0, 0.5), [0.0, 0.0, 1e12]),  # infinitely far
        ((-0.5, 0.0, 0.5), [0.0, 0.0, 1e-6]),  # right at a camera
        ((0.0, 0.0, 0.0), [0.0, 0.0, 2e-6]),
        ((-0.5, 0.0, 0.5), [0.0, 0.0, -3.0]),  # behind all of them
    ],
)
def test_a_point_that_is_not_determined_leaves_the_others_alone(x, degenerate):
    poses, points = cameras(*x), np.array([[0.1, 0.2, 4.0], degenerate])
    observations = seen_by_all(poses, points)
    with np.errstate(all="ignore"):
        started = triangulate(
            poses[observations.keyframe],
            rays_of(observations.pixels, INTRINSICS[observations.keyframe]),
            observations.point,
        )[0]
        for start in (points, started):
            found, covariance = refine_points(observations, poses, start, 0.5)
            good = are_determined(found, covariance)
            assert good[0] or x == (0.0, 0.0, 0.0)
            lower_roots(covariance[good])


@pytest.mark.parametrize("apart_px", [0.0, 0.5, -0.5])
def test_rays_that_are_parallel_but_for_noise_agree_far_out(apart_px: float):
    """As of an image that is there twice, or of the horizon: in front of the cameras, not anywhere
    along the ray.
    """
    for x in (0.0, 0.001):
        poses = cameras(3.0, 3.0 + x)
        pixels = np.array([[500.0, 100.0], [500.0 + apart_px, 100.0]])
        seen = Observations(np.array([0, 1]), np.array([0, 0]), pixels, INTRINSICS[:2])
        point, _ = triangulate(poses, rays_of(pixels, INTRINSICS[:2]), seen.point)
        assert np.abs(project(seen, poses, point)[0]).max() < 0.6


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_roots_of_long_and_thin_covariances_exist_at_every_scale(scale):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(200, 3, 3)))[0]
    deviation = scale * 10 ** rng.uniform(-9, 0, (200, 3))
    covariance = turn * deviation[:, None] ** 2 @ turn.swapaxes(1, 2)
    roots = lower_roots(covariance).astype(np.float64)
    largest = np.linalg.norm(covariance, axis=(1, 2))
    error = np.linalg.norm(roots @ roots.swapaxes(1, 2) - covariance, axis=(1, 2))
    assert (error < 5e-3 * largest + 1e-11).all()


def test_what_a_half_cannot_hold_or_is_not_finite_is_not_determined():
    points = np.array([[0, 0, 1.0], [0, 0, np.nan], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    covariance = np.tile(np.eye(3), (5, 1, 1))
    covariance[2, 0, 0], covariance[3, 1, 1], covariance[4] = 1e11, np.inf, -np.eye(3)
    assert are_determined(points, covariance).tolist() == [True, False, False, False, False]
