"""Bundle adjustment of keyframe poses and points with six-degree priors on the poses.

Levenberg-Marquardt on the Schur complement of the points (Triggs et al. 2000, section 6). Residuals
of reprojection and of priors are weighted by Cauchy's function, so that wrong matches and wrong
priors lose their say. Written here because the adjusters at hand take priors of positions only, and
a part of the map with two keyframes then rolls freely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Floats, cross_matrix
from vggt3_ros.geometry.robust import robust_deviation
from vggt3_ros.landmarks.observations import (
    MIN_DEPTH,
    ObservationOrder,
    Observations,
    lenses,
    pixel_derivative,
    project,
)
from vggt3_ros.progress import Progress

_MIN_GAIN = 1e-5  # relative, of a step; smaller ones end the iterations
# information that every point is given, so that one without parallax stays determined
_LOOSE = 1e-3


@dataclass(frozen=True, eq=False)
class PosePriors:
    """Expected world_from_cam (K, 4, 4) with standard deviations position_sigma (K,),
    rotation_sigma (K,) in rad.
    """

    world_from_cam: Floats
    position_sigma: Floats
    rotation_sigma: Floats


@dataclass(frozen=True, eq=False)
class Adjusted:
    """world_from_cam (K, 4, 4), points (N, 3); residuals (O, 2) px unweighted; whether the
    iterations settled.

    focal: factor found for the focal lengths, 1 when they were held fixed. pose_covariance (K, 6,
    6) of (position in the world, rotation in the camera frame); point_covariance (N, 3, 3) with the
    poses held, both for the expected noise; noise_px: robust standard deviation of an observation,
    per axis, as the residuals show it. prior_deviation (K, 2) metres and radians between poses and
    priors.
    """

    world_from_cam: Floats
    points: Floats
    residuals: Floats
    converged: bool
    focal: float
    pose_covariance: Floats
    point_covariance: Floats
    noise_px: float
    prior_deviation: Floats


def adjust(
    observations: Observations,
    world_from_cam: Floats,
    points: Floats,
    priors: PosePriors,
    *,
    noise_px: float = 1.0,
    outlier: float = 3.0,
    prior_outlier: float = 3.0,
    refine_focal: bool = False,
    frame_is_free: bool = False,
    iterations: int = 100,
    progress: Progress | None = None,
) -> Adjusted:
    """Adjust poses (K, 4, 4) and points (N, 3).

    noise_px: expected deviation of an observation; `outlier` and `prior_outlier`: deviations beyond
    which an observation, or a prior, loses weight. One factor of all focal lengths is found on
    request (known to 10 %). frame_is_free: the covariance of poses leaves out how the world as a
    whole may be shifted, rotated and scaled: it is what remains when those are chosen best for the
    keyframes that observe anything.
    """
    damping = 1e-4
    settled = False
    order = ObservationOrder.of(observations, len(world_from_cam), len(points))
    problem = _Problem(observations, order, priors, noise_px, outlier, prior_outlier, refine_focal)
    here = problem.at(_State(world_from_cam.copy(), points.copy(), 0.0))
    system = problem.linearize(here)
    for iteration in range(iterations):
        if progress is not None:
            progress(iteration / iterations)
        step = system.solve(damping)
        moved = None if step is None else problem.at(here.state.moved(*step))
        if moved is not None and moved.cost < here.cost:
            settled = here.cost - moved.cost < _MIN_GAIN * here.cost
            here = moved
            damping = max(damping / 5, 1e-9)
            system = problem.linearize(here)
            if settled:
                break
        else:
            damping *= 10
            if damping > 1e6:
                settled = True  # no direction leads down any more
                break
    state = here.state
    pose_covariance, point_covariance = system.covariances(
        _similarities(state) if frame_is_free else None
    )
    return Adjusted(
        state.world_from_cam,
        state.points,
        here.residuals,
        settled,
        float(np.exp(state.log_focal)),
        pose_covariance,
        point_covariance,
        robust_deviation(here.residuals) / _freedom(here.residuals, state),
        problem.prior_deviation(here),
    )


def _similarities(state: _State) -> Floats:
    """How poses (6 K, 7) move with the world as a whole: shifted, rotated about its origin,
    scaled.
    """
    position = state.world_from_cam[:, :3, 3]
    rotation = state.world_from_cam[:, :3, :3]
    motions = np.zeros((len(position), 6, 7))
    motions[:, :3, :3] = np.eye(3)
    motions[:, :3, 3:6] = -cross_matrix(position)
    motions[:, 3:, 3:6] = rotation.swapaxes(1, 2)
    motions[:, :3, 6] = position
    return motions.reshape(-1, 7)


def _freedom(residuals: Floats, state: _State) -> float:
    """What the fit leaves of the noise: the root of the fraction of residuals that no
    unknown takes up.
    """
    unknowns = state.points.size + 6 * len(state.world_from_cam)
    return float(np.sqrt(max(1 - unknowns / max(residuals.size, 1), 0.1)))


def cauchy(squared: Floats, scale: float) -> tuple[Floats, Floats]:
    """Half the robust cost, and the weight, of squared deviations."""
    ratio = squared / scale**2
    return 0.5 * scale**2 * np.log1p(ratio), 1 / (1 + ratio)


@dataclass(frozen=True, eq=False)
class _State:
    world_from_cam: Floats
    points: Floats
    log_focal: float

    def moved(self, poses: Floats, points: Floats, log_focal: float) -> _State:
        """After steps (K, 6) of position and camera-frame rotation, (N, 3), and of the focal
        length.
        """
        from scipy.spatial.transform import Rotation

        world_from_cam = self.world_from_cam.copy()
        rotation = Rotation.from_rotvec(poses[:, 3:]).as_matrix()
        # NumPy before 1.25 has no @=
        world_from_cam[:, :3, :3] = world_from_cam[:, :3, :3] @ rotation
        world_from_cam[:, :3, 3] += poses[:, :3]
        return _State(world_from_cam, self.points + points, self.log_focal + log_focal)


@dataclass(frozen=True, eq=False)
class _Misfit:
    """How a state fits: its cost; residuals (O, 2) px, and their robust weights (O,); points in
    camera axes (O, 3); focal lengths (O, 2); deviations (K, 6) from priors in sigmas.
    """

    state: _State
    cost: float
    residuals: Floats
    weights: Floats
    cam: Floats
    focal: Floats
    prior: Floats


class _Problem:
    def __init__(
        self,
        observations: Observations,
        order: ObservationOrder,
        priors: PosePriors,
        noise_px: float,
        outlier: float,
        prior_outlier: float,
        refine_focal: bool,
    ) -> None:
        self.seen = observations
        self.priors = priors
        self.noise_px = noise_px
        self.refine_focal = refine_focal
        self.outlier = outlier
        self.prior_outlier = prior_outlier
        self.order = order
        self._lens = lenses(observations)
        sigma = np.stack([priors.position_sigma, priors.rotation_sigma], axis=1)
        self._inverse_sigma = np.repeat(1 / sigma, 3, axis=1)

    def at(self, state: _State) -> _Misfit:
        """How a state fits."""
        residual, cam, focal = project(
            self.seen,
            state.world_from_cam,
            state.points,
            float(np.exp(state.log_focal)),
            self._lens,
        )
        costs, weights = cauchy((residual**2).sum(1) / self.noise_px**2, self.outlier)
        prior = self._prior_residuals(state)
        cost = costs.sum()
        for part in (prior[:, :3], prior[:, 3:]):
            cost += cauchy((part**2).sum(1), self.prior_outlier)[0].sum()
        return _Misfit(state, float(cost), residual, weights, cam, focal, prior)

    def linearize(self, here: _Misfit) -> _NormalEquations:
        seen = self.seen
        residual, cam = here.residuals, here.cam
        weight = here.weights / self.noise_px**2
        weight[cam[:, 2] <= MIN_DEPTH] = 0
        by_cam = pixel_derivative(cam, here.focal)
        rotation = here.state.world_from_cam[seen.keyframe, :3, :3]
        by_point = by_cam @ rotation.swapaxes(1, 2)
        # cam = exp(-w) R^T (X - p - dp), hence d cam / d dp = -R^T and d cam / d w = [cam]x.
        by_pose = np.concatenate([-by_point, by_cam @ cross_matrix(cam)], axis=2)  # (O, 2, 6)
        by_focal = None
        if self.refine_focal:
            by_focal = (residual + seen.pixels - self._lens[1])[..., None]
        return _NormalEquations(self, here, weight, by_pose, by_point, by_focal)

    def prior_terms(self, residual: Floats) -> tuple[Floats, Floats]:
        """Weighted Hessian diagonal (K, 6) and gradient (K, 6) of the priors, at deviations
        (K, 6) from them.
        """
        position = cauchy((residual[:, :3] ** 2).sum(1), self.prior_outlier)[1]
        rotation = cauchy((residual[:, 3:] ** 2).sum(1), self.prior_outlier)[1]
        weights = np.repeat(np.stack([position, rotation], axis=1), 3, axis=1)
        information = self._inverse_sigma * weights
        return information * self._inverse_sigma, information * residual

    def prior_deviation(self, here: _Misfit) -> Floats:
        """Metres and radians (K, 2) between poses and priors."""
        both = (here.prior / self._inverse_sigma).reshape(-1, 2, 3)
        distance: Floats = np.linalg.norm(both, axis=2)
        return distance

    def _prior_residuals(self, state: _State) -> Floats:
        """(K, 6) deviations of poses from their priors, in sigmas."""
        from scipy.spatial.transform import Rotation

        prior = self.priors.world_from_cam
        position = state.world_from_cam[:, :3, 3] - prior[:, :3, 3]
        rotation = Rotation.from_matrix(
            prior[:, :3, :3].swapaxes(1, 2) @ state.world_from_cam[:, :3, :3]
        ).as_rotvec()
        return np.concatenate([position, rotation], axis=1) * self._inverse_sigma


class _NormalEquations:
    """Gauss-Newton equations at a state, with the points to be eliminated."""

    def __init__(
        self,
        problem: _Problem,
        here: _Misfit,
        weight: Floats,
        by_pose: Floats,
        by_point: Floats,
        by_focal: Floats | None,
    ) -> None:
        residual = here.residuals
        self.seen = problem.seen
        self.order = order = problem.order
        self.count = order.count
        weighted = weight[:, None, None] * by_pose
        self.point_hessian = order.by_points(
            weight[:, None, None] * by_point.swapaxes(1, 2) @ by_point
        )
        self.point_gradient = order.by_points(
            weight[:, None] * np.einsum("oij,oi->oj", by_point, residual)
        )
        diagonal, gradient = problem.prior_terms(here.prior)
        self.least_information = 0.1 * float(diagonal.min())
        self.pose_hessian = order.by_keyframes(weighted.swapaxes(1, 2) @ by_pose)
        self.pose_hessian[:, range(6), range(6)] += diagonal
        self.pose_gradient = (
            order.by_keyframes(np.einsum("oij,oi->oj", weighted, residual)) + gradient
        )
        self.mixed = weighted.swapaxes(1, 2) @ by_point  # (O, 6, 3)
        self.focal: tuple[Floats, Floats, float, float] | None = None
        if by_focal is not None:
            scaled = weight[:, None, None] * by_focal
            with_pose = order.by_keyframes((by_pose.swapaxes(1, 2) @ scaled)[..., 0]).ravel()
            with_point = order.by_points((by_point.swapaxes(1, 2) @ scaled)[..., 0])
            belief = 1 / 0.1**2
            self.focal = (
                with_pose,
                with_point,
                float((scaled * by_focal).sum()) + belief,
                float((scaled[..., 0] * residual).sum()) + belief * here.state.log_focal,
            )

    def solve(self, damping: float) -> tuple[Floats, Floats, float] | None:
        """Steps of poses (K, 6), points (N, 3) and log focal length; None where the system is
        singular.
        """
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        reduced, right, inverse, border = self._reduce(damping)
        try:
            step = -cho_solve(cho_factor(reduced), right)
        except (LinAlgError, ValueError):
            return None
        poses = step[: 6 * self.count].reshape(-1, 6)
        log_focal = float(step[-1]) if border is not None else 0.0
        moved = np.einsum("oij,oi->oj", self.mixed, poses[self.seen.keyframe])
        back = self.point_gradient + self.order.by_points(moved)
        if border is not None:
            back = back + border * log_focal
        return poses, -np.einsum("nij,nj->ni", inverse, back), log_focal

    def covariances(self, free: Floats | None) -> tuple[Floats, Floats]:
        """Of poses (K, 6, 6), without motions (6 K, n) that are free, and of points (N, 3, 3) with
        the poses held.
        """
        reduced, _, inverse, _ = self._reduce(0.0)
        # the points say nothing that could be added to what the priors know
        if not np.isfinite(reduced).all():
            reduced = self.least_information * np.eye(len(reduced))
        # Rounding may make directions that points hardly determine look negative; the priors know
        # at least as much.
        values, vectors = np.linalg.eigh(reduced)
        full = (vectors / np.maximum(values, self.least_information)) @ vectors.T
        full = full[: 6 * self.count, : 6 * self.count]
        if free is not None:
            observing = np.bincount(self.seen.keyframe, minlength=self.count) > 0
            fixed = np.eye(len(free)) - free @ np.linalg.pinv(
                free * np.repeat(observing, 6)[:, None]
            )
            full = fixed @ full @ fixed.T
        blocks = full.reshape(self.count, 6, self.count, 6)
        return blocks[range(self.count), :, range(self.count)], inverse

    def _reduce(self, damping: float) -> tuple[Floats, Floats, Floats, Floats | None]:
        """Schur complement, its right side, inverse point Hessians (N, 3, 3), and the focal
        length's column (N, 3).
        """
        from scipy.sparse import bsr_matrix

        loose = _LOOSE + 1e-12 * np.trace(self.point_hessian, axis1=1, axis2=2)
        inverse = np.linalg.inv(
            _damped(self.point_hessian, damping) + loose[:, None, None] * np.eye(3)
        )
        ordered = self.mixed[self.order.by_keyframe]
        column, starts = self.order.points, self.order.starts
        shape = (6 * self.count, 3 * len(inverse))
        mixed = bsr_matrix((ordered, column, starts), shape=shape)
        eliminated = bsr_matrix((ordered @ inverse[column], column, starts), shape=shape)
        reduced = -np.asarray((eliminated @ mixed.T).toarray())
        blocks = reduced.reshape(self.count, 6, self.count, 6)
        blocks[range(self.count), :, range(self.count)] += _damped(self.pose_hessian, damping)
        right = self.pose_gradient.ravel() - eliminated @ self.point_gradient.ravel()
        if self.focal is None:
            return reduced, right, inverse, None
        with_pose, with_point, curvature, gradient = self.focal
        column_of_focal = with_pose - eliminated @ with_point.ravel()
        through = np.einsum("nij,nj->ni", inverse, with_point)
        corner = curvature * (1 + damping) - float((with_point * through).sum())
        reduced = np.block(
            [[reduced, column_of_focal[:, None]], [column_of_focal[None], np.array([[corner]])]]
        )
        right = np.append(right, gradient - float((through * self.point_gradient).sum()))
        return reduced, right, inverse, with_point


def _damped(hessians: Floats, damping: float) -> Floats:
    """Blocks (N, n, n) with their diagonals enlarged (Marquardt)."""
    out = hessians.copy()
    size = range(hessians.shape[-1])
    out[:, size, size] *= 1 + damping
    return out
