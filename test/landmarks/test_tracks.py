"""Chains of matches, and points from their rays."""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.tracks import build_tracks
from vggt3_ros.landmarks.triangulation import rays_of, refine_points, triangulate

CAMERA = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


def pairs(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.int32)


def test_matches_are_chained_over_keyframes() -> None:
    tracks = build_tracks([3, 3, 3], {(0, 1): pairs((0, 1), (2, 2)), (1, 2): pairs((1, 0))})
    assert tracks.points == 2
    found = {
        tuple(
            zip(tracks.keyframe[tracks.point == p], tracks.feature[tracks.point == p], strict=True)
        )
        for p in range(tracks.points)
    }
    assert found == {((0, 0), (1, 1), (2, 0)), ((0, 2), (1, 2))}


def test_two_features_of_one_keyframe_are_never_one_point() -> None:
    matches = {(0, 1): pairs((0, 0)), (1, 2): pairs((0, 0)), (0, 2): pairs((1, 0))}
    tracks = build_tracks([2, 1, 1], matches)
    assert tracks.points == 1 and set(tracks.keyframe) == {1, 2}


def test_no_matches_no_tracks() -> None:
    assert build_tracks([5, 5], {}).points == 0


def cameras(count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, count)
    return poses


def test_points_are_where_rays_meet() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform((-1, -1, 3), (1, 1, 6), (40, 3))
    poses = cameras(3)
    point, keyframe = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    cam = truth[point] - poses[keyframe, :3, 3]
    pixels = cam[:, :2] / cam[:, 2:] * 500 + CAMERA[:2, 2]
    every = np.repeat(CAMERA[None], 3, axis=0)
    points, angle = triangulate(poses[keyframe], rays_of(pixels, every[keyframe]), point)
    np.testing.assert_allclose(points, truth, atol=1e-5)
    widest = np.arctan2(1.0, 6.0)
    assert angle.min() > 0.9 * widest and angle.max() < 0.5

    noisy = pixels + rng.normal(size=pixels.shape)
    observations = Observations(keyframe, point, noisy, every)
    rough, _ = triangulate(poses[keyframe], rays_of(noisy, every[keyframe]), point)
    refined, covariance = refine_points(observations, poses, rough, 1.0)

    def cost(found: np.ndarray) -> float:
        """Cauchy's, which single wild observations cannot dominate."""
        return float(np.log1p((project(observations, poses, found)[0] ** 2).sum(1) / 9).sum())

    assert cost(refined) < cost(rough)
    error = refined - truth
    squares = np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error)
    assert 1.5 < np.median(squares) < 4  # chi-square of 3 degrees of freedom has 2.37


def test_a_point_behind_a_camera_misses_by_far() -> None:
    observations = Observations(
        np.zeros(1, int), np.zeros(1, int), np.array([[320.0, 240]]), CAMERA[None]
    )
    assert np.abs(project(observations, cameras(1), np.array([[0.0, 0, -2]]))[0]).max() > 100
