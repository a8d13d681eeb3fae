"""Points from the rays of several cameras."""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Indices
from vggt3_ros.landmarks.observations import MIN_DEPTH, Observations, pixel_derivative, project

MIN_ANGLE = float(np.radians(1.5))  # that the rays of a landmark must spread over
_OUTLIER = 3.0  # deviations beyond which an observation loses weight
_FAR = 1e3  # distance of points whose rays are parallel
_PARALLEL = np.radians(2.0)  # angle up to which rays may part by noise alone
_LOOSE = 1e-3  # information that every point is given


def rays_of(pixels: Floats, intrinsics: Floats) -> Floats:
    """Directions (O, 3) with z = 1 in camera axes of pixels (O, 2) under intrinsics (O, 3, 3)."""
    x = (pixels[:, 0] - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0]
    y = (pixels[:, 1] - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=1)


def triangulate(world_from_cam: Floats, rays: Floats, point: Indices) -> tuple[Floats, Floats]:
    """Points (N, 3) nearest to their rays in the least-squares sense, and the angle (N,) in rad
    that rays spread over.

    world_from_cam (O, 4, 4) and rays (O, 3) of each observation in camera axes; point (O,) which it
    is of, sorted. The angle is the largest between a point's mean ray and one of its rays, doubled.
    Rays that are parallel but for noise, as of one image twice, give points far out: there they
    agree.
    """
    count = int(point[-1]) + 1 if len(point) else 0
    start = np.searchsorted(point, np.arange(count))
    direction = np.einsum("oij,oj->oi", world_from_cam[:, :3, :3], rays)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    seen = np.maximum(np.bincount(point, minlength=count), 1)[:, None]
    middle = np.add.reduceat(world_from_cam[:, :3, 3], start, axis=0) / seen
    centre = world_from_cam[:, :3, 3] - middle[point]
    # projects onto the plane across the ray
    across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
    matrix = np.add.reduceat(across, start, axis=0)
    right = np.add.reduceat(np.einsum("oij,oj->oi", across, centre), start, axis=0)
    mean = np.add.reduceat(direction, start, axis=0)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    scale = 1e-12 * np.trace(matrix, axis1=1, axis2=2)
    right += (scale * _FAR)[:, None] * mean
    points = np.linalg.solve(matrix + scale[:, None, None] * np.eye(3), right[..., None])[..., 0]
    angle = 2 * np.arccos(
        np.clip(np.minimum.reduceat((direction * mean[point]).sum(1), start), -1, 1)
    )
    parting = (angle < _PARALLEL) & ((points * mean).sum(1) <= 0)
    points[parting] = _FAR * mean[parting]
    return points + middle, angle


def refine_points(
    observations: Observations,
    world_from_cam: Floats,
    points: Floats,
    noise_px: float,
    rounds: int = 3,
) -> tuple[Floats, Floats]:
    """Points (N, 3) that project best, by Gauss-Newton with the poses held, and their covariances
    (N, 3, 3).

    What rays do not determine, as of a point seen along one line or right at a camera, has a large
    variance or is not finite.
    """
    start = np.searchsorted(observations.point, np.arange(len(points)))
    rotation = world_from_cam[observations.keyframe, :3, :3]
    for _ in range(rounds):
        residual, cam, focal = project(observations, world_from_cam, points)
        by_point = pixel_derivative(cam, focal) @ rotation.swapaxes(1, 2) / noise_px
        residual = residual / noise_px
        weight = 1 / (1 + (residual**2).sum(1) / _OUTLIER**2)
        weight[cam[:, 2] <= MIN_DEPTH] = 0
        weighted = weight[:, None, None] * by_point
        hessian = np.add.reduceat(weighted.swapaxes(1, 2) @ by_point, start, axis=0)
        # Beside large entries a small one is lost to rounding, and what one line of sight leaves
        # open is singular.
        loose = _LOOSE + 1e-12 * np.trace(hessian, axis1=1, axis2=2)
        hessian += loose[:, None, None] * np.eye(3)
        gradient = np.add.reduceat(np.einsum("oij,oi->oj", weighted, residual), start, axis=0)
        points = points - np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return points, np.asarray(np.linalg.inv(hessian), dtype=np.float64)
