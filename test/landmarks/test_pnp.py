from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.landmarks.pnp import (
    PnpSettings,
    projections,
    refine_pnp,
    reprojection_errors,
    solve_pnp,
)

INTRINSICS = np.array([[520.0, 0, 322], [0, 510, 238], [0, 0, 1]])
POSE = look_at(
    torch.tensor([1.0, -3.0, 1.2]).double(),
    torch.tensor([0.2, 0.4, 0.8]).double(),
    torch.tensor([0, 0, 1.0]).double(),
).numpy()


def scene(rng: np.random.Generator, count: int = 120, flat: bool = False) -> np.ndarray:
    """Points (n, 3) that the camera at POSE sees, 2 to 6 m away or on a plane."""
    z = np.full(count, 3.0) if flat else rng.uniform(2, 6, count)
    pixels = rng.uniform([0, 0], [640, 480], (count, 2))
    local = np.concatenate(
        [(pixels - INTRINSICS[:2, 2]) / INTRINSICS[[0, 1], [0, 1]], np.ones((count, 1))], 1
    )
    return local * z[:, None] @ POSE[:3, :3].T + POSE[:3, 3]


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Small rotation (3, 3) as axis times angle."""
    skew = rotation - rotation.T
    return 0.5 * np.array([skew[2, 1], skew[0, 2], skew[1, 0]])


def pose_error(estimate: np.ndarray) -> np.ndarray:
    """(6,) of position in the world and rotation in the camera frame, true pose against
    estimate.
    """
    turn = rotation_vector(estimate[:3, :3].T @ POSE[:3, :3])
    return np.concatenate([POSE[:3, 3] - estimate[:3, 3], turn])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("outliers", [0.0, 0.7])
def test_exact_pose_among_outliers(flat, outliers):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points = scene(rng, flat=flat)
        pixels, _ = projections(POSE, points, INTRINSICS)
        wrong = rng.random(len(points)) < outliers
        pixels[wrong] = rng.uniform([0, 0], [640, 480], (int(wrong.sum()), 2))
        solution = solve_pnp(points, pixels, None, INTRINSICS, PnpSettings())
        assert solution is not None
        assert np.abs(pose_error(solution.world_from_cam)).max() < 2e-3
        assert solution.inliers[~wrong].all()


def test_covariance_tells_the_errors_that_occur():
    """Normalised squared errors follow chi-square of 6 degrees, also where points are uncertain
    each in its own way.
    """
    squares = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        points = scene(rng, 60)
        spread = 10 ** rng.uniform(-3.5, -1.3, 60)
        roots = np.tril(rng.normal(size=(60, 3, 3)))
        roots *= (spread / np.linalg.norm(roots, axis=(1, 2)))[:, None, None]
        pixels, _ = projections(
            POSE, points + np.einsum("nij,nj->ni", roots, rng.normal(size=(60, 3))), INTRINSICS
        )
        pixels += rng.normal(size=pixels.shape) * 0.7
        start = POSE.copy()
        start[:3, 3] += 0.02
        solution = refine_pnp(start, points, pixels, roots, INTRINSICS, PnpSettings(inlier_px=30.0))
        error = pose_error(solution.world_from_cam)
        squares.append(error @ np.linalg.solve(solution.covariance, error))
    # 5.35 in theory; the scale is never below 1, so rather less
    assert 4.0 < np.median(squares) < 6.5
    assert np.mean(np.array(squares) < 12.59) > 0.9


def test_certain_points_count_more():
    rng = np.random.default_rng(0)
    points = scene(rng, 80)
    moved = points.copy()
    moved[:40] += rng.normal(size=(40, 3)) * 0.02
    pixels, _ = projections(POSE, moved, INTRINSICS)
    roots = np.zeros((80, 3, 3))
    roots[:40] = 0.02 * np.eye(3)
    settings = PnpSettings(inlier_px=20.0)
    told = pose_error(refine_pnp(POSE, points, pixels, roots, INTRINSICS, settings).world_from_cam)
    untold = pose_error(refine_pnp(POSE, points, pixels, None, INTRINSICS, settings).world_from_cam)
    assert np.linalg.norm(told) < 0.5 * np.linalg.norm(untold)


def test_refinement_converges_from_a_rough_pose():
    points = scene(np.random.default_rng(1))
    pixels, _ = projections(POSE, points, INTRINSICS)
    start = POSE.copy()
    start[:3, :3] = (
        start[:3, :3] @ rotation_from_axis_angle(torch.tensor([0.02, -0.03, 0.05]).double()).numpy()
    )
    start[:3, 3] += [0.1, -0.05, 0.08]
    solution = refine_pnp(start, points, pixels, None, INTRINSICS, PnpSettings(inlier_px=40.0))
    assert np.abs(pose_error(solution.world_from_cam)).max() < 1e-5
    assert reprojection_errors(solution.world_from_cam, points, pixels, INTRINSICS).max() < 1e-2


def test_the_same_input_gives_the_same_pose():
    rng = np.random.default_rng(2)
    points = scene(rng)
    pixels, _ = projections(POSE, points, INTRINSICS)
    pixels[:80] = rng.uniform([0, 0], [640, 480], (80, 2))
    first, second = (solve_pnp(points, pixels, None, INTRINSICS, PnpSettings()) for _ in range(2))
    np.testing.assert_array_equal(first.world_from_cam, second.world_from_cam)


def test_what_determines_no_pose_gives_none():
    rng = np.random.default_rng(3)
    points = scene(rng, 60)
    pixels, _ = projections(POSE, points, INTRINSICS)
    settings = PnpSettings()
    assert solve_pnp(points[:3], pixels[:3], None, INTRINSICS, settings) is None
    assert solve_pnp(points[:0], pixels[:0], None, INTRINSICS, settings) is None
    assert refine_pnp(POSE, points, pixels + 500, None, INTRINSICS, settings) is None
    same = np.repeat(points[:1], 60, axis=0)
    assert (
        refine_pnp(POSE, same, np.repeat(pixels[:1], 60, axis=0), None, INTRINSICS, settings)
        is None
    )


def test_what_was_searched_before_changes_nothing():
    """A search among many wrong matches ends with the same bits however far OpenCV's own dice have
    been thrown.
    """
    rng = np.random.default_rng(5)
    points = scene(rng, 150)
    pixels = projections(POSE, points, INTRINSICS)[0] + rng.normal(0, 1.0, (150, 2))
    pixels[:110] = rng.uniform([0, 0], [640, 480], (110, 2))

    def found(seed: int) -> np.ndarray:
        cv2.setRNGSeed(seed)
        solution = solve_pnp(points, pixels, None, INTRINSICS, PnpSettings(iterations=100))
        return np.zeros(0) if solution is None else solution.world_from_cam

    first = found(1)
    assert all(np.array_equal(found(seed), first) for seed in range(2, 30))


@pytest.mark.parametrize("where", ["at the camera", "behind it", "on one line of sight", "far out"])
def test_points_that_determine_nothing_give_no_pose(where):
    ahead, aside = POSE[:3, 2], POSE[:3, 0]
    metres = np.linspace(1, 2, 8)[:, None]
    points = (
        POSE[:3, 3]
        + {
            "at the camera": 0 * metres * ahead,
            "behind it": -metres * ahead + metres**2 * aside,
            "on one line of sight": metres * ahead,
            "far out": 1e300 * metres * ahead,
        }[where]
    )
    pixels = np.tile([[322.0, 238.0]], (8, 1))
    with np.errstate(all="ignore"):
        assert refine_pnp(POSE, points, pixels, None, INTRINSICS, PnpSettings()) is None
        assert (
            refine_pnp(
                POSE, points, pixels, np.tile(np.eye(3), (8, 1, 1)), INTRINSICS, PnpSettings()
            )
            is None
        )
