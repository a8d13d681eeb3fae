"""The pose of one camera from points whose positions are known, and how well it is determined."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Mask, cross_matrix
from vggt3_ros.landmarks.levenberg_marquardt import minimised

MIN_CORRESPONDENCES = 4  # correspondences that determine a pose
_CONFIDENCE = 0.999
CAUCHY = 1.4  # PnpSettings.influence; 2 was 3 % worse, 1 lost poses
_STEPS = 15
# condition, in units of each parameter's own, of an information matrix that determines nothing
_SINGULAR = 1e12
# of the median distance: points nearer to the camera plane have no usable projection
_MIN_DEPTH = 1e-3


@dataclass(frozen=True)
class PnpSettings:
    """inlier_px: largest reprojection error of an inlier; noise_px: standard deviation of a
    feature's position, per axis; iterations: most hypotheses tried by RANSAC, which stops earlier
    once it is 99.9 % sure; influence: residual, in its standard deviations, from which an
    observation loses influence; settled: squared step, in standard deviations of an observation,
    that ends the refinement.
    """

    inlier_px: float = 4.0
    noise_px: float = 0.7
    iterations: int = 1000
    influence: float = CAUCHY
    settled: float = 1e-5


@dataclass(frozen=True, eq=False)
class PnpSolution:
    """world_from_cam (4, 4); covariance (6, 6) of (position in the world, rotation in the camera
    frame in rad): what the observations say, without errors that the points have in common; inliers
    (n,) bool; scale: residuals are that many times as large as the noise of features and points
    lets expect.
    """

    world_from_cam: Floats
    covariance: Floats
    inliers: Mask
    scale: float


def solve_pnp(
    points: Floats,
    pixels: Floats,
    point_roots: Floats | None,
    intrinsics: Floats,
    settings: PnpSettings,
) -> PnpSolution | None:
    """Pose from points (n, 3) in the world and their pixels (n, 2) of which many may be wrong:
    RANSAC, then refine_pnp.

    point_roots (n, 3, 3): L of each point's covariance L L^T, None if exact. None when no pose has
    MIN_CORRESPONDENCES inliers. The same input always gives the same pose, whatever was searched
    before.
    """
    import cv2

    if len(points) < MIN_CORRESPONDENCES:
        return None
    cv2.setRNGSeed(0)  # so that the promise does not rest on which of its dice OpenCV throws
    # Measured: where a fifth of the matches are right this finds 99.5 % of the inliers in 14 ms,
    # the plain RANSAC of OpenCV 91 % in 86 ms; that one also fails on 5 % of easy views, nearly
    # flat ones, as it ends with EPnP.
    search = cv2.UsacParams()
    search.threshold = settings.inlier_px
    search.maxIterations = settings.iterations
    search.confidence = _CONFIDENCE
    search.sampler = cv2.SAMPLING_UNIFORM
    search.score = cv2.SCORE_METHOD_MSAC
    search.loMethod = cv2.LOCAL_OPTIM_INNER_LO
    search.loIterations = 5
    search.loSampleSize = 14
    search.randomGeneratorState = 0
    search.isParallel = False
    found, _, rotation, shift, _ = cv2.solvePnPRansac(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(pixels, np.float64),
        intrinsics.copy(),  # it writes there
        np.zeros(4),
        params=search,
    )
    if not found or not (np.isfinite(rotation).all() and np.isfinite(shift).all()):
        return None
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = np.asarray(cv2.Rodrigues(rotation)[0]).T
    world_from_cam[:3, 3] = -world_from_cam[:3, :3] @ shift[:, 0]
    return refine_pnp(world_from_cam, points, pixels, point_roots, intrinsics, settings)


def refine_pnp(
    start: Floats,
    points: Floats,
    pixels: Floats,
    point_roots: Floats | None,
    intrinsics: Floats,
    settings: PnpSettings,
) -> PnpSolution | None:
    """Pose that fits best from `start` (4, 4) on, with Cauchy weights; arguments as in solve_pnp.

    An observation counts by the noise of its feature and the covariance of its point, projected.
    Only those take part that lie within twice inlier_px at the start. None when the inliers do not
    determine a pose.
    """
    near = reprojection_errors(start, points, pixels, intrinsics) < 2 * settings.inlier_px
    if near.sum() < MIN_CORRESPONDENCES:
        return None
    used_points = points[near]
    used_pixels = pixels[near]
    try:
        white = whitening(
            start,
            used_points,
            intrinsics,
            None if point_roots is None else point_roots[near],
            settings,
        )
    except np.linalg.LinAlgError:
        return None
    view = _View(used_points, used_pixels, intrinsics, white)
    residuals, jacobian = view.linearized(start)
    limit = (settings.influence * residual_scale(residuals)) ** 2
    begin = _Pose(view, limit, start, residuals, jacobian)
    found = minimised(begin, _STEPS, settings.settled * limit)
    if found is None:
        return None
    pose = found.world_from_cam
    residuals = found.residuals
    jacobian = found.jacobian
    inliers = reprojection_errors(pose, points, pixels, intrinsics) < settings.inlier_px
    own = inliers[near]
    if own.sum() < MIN_CORRESPONDENCES:
        return None
    scale = max(1.0, residual_scale(residuals[own]))
    information, _ = _normal_equations(residuals[own], jacobian[own], np.ones(int(own.sum())))
    unit = np.sqrt(np.diag(information))
    if (
        not (np.isfinite(unit) & (unit > 0)).all()
        or not np.linalg.cond(information / np.outer(unit, unit)) < _SINGULAR
    ):
        return None
    covariance = scale**2 * np.linalg.inv(information)
    return PnpSolution(pose, (covariance + covariance.T) / 2, inliers, scale)


@dataclass(frozen=True, eq=False)
class _View:
    """What one camera observes: points (n, 3), pixels (n, 2), intrinsics (3, 3), and the inverse
    roots (n, 2, 2) of the residuals' covariances.
    """

    points: Floats
    pixels: Floats
    intrinsics: Floats
    white: Floats

    def linearized(self, world_from_cam: Floats) -> tuple[Floats, Floats]:
        """Residuals (n, 2) and derivatives (n, 2, 6) at a pose (4, 4)."""
        return linearized(world_from_cam, self.points, self.pixels, self.intrinsics, self.white)


@dataclass(frozen=True, eq=False)
class _Pose:
    """A pose (4, 4) for `minimised`, with its residuals (n, 2) and derivatives (n, 2, 6); limit
    (squared) beyond which residuals lose influence.
    """

    view: _View
    limit: float
    world_from_cam: Floats
    residuals: Floats
    jacobian: Floats

    @cached_property
    def growth(self) -> Floats:
        """What (n,) the weights of the residuals are divided by."""
        growth: Floats = 1 + (self.residuals**2).sum(1) / self.limit
        return growth

    @cached_property
    def cost(self) -> float:
        return float(np.log(self.growth).sum())

    @cached_property
    def normal_equations(self) -> tuple[Floats, Floats]:
        return _normal_equations(self.residuals, self.jacobian, 1 / self.growth)

    def stepped(self, step: Floats) -> _Pose:
        pose = moved(self.world_from_cam, step)
        return _Pose(self.view, self.limit, pose, *self.view.linearized(pose))


def reprojection_errors(
    world_from_cam: Floats, points: Floats, pixels: Floats, intrinsics: Floats
) -> Floats:
    """Distances (n,) in pixels between projected points (n, 3) and pixels (n, 2); infinite behind
    the camera.
    """
    projected, z = projections(world_from_cam, points, intrinsics)
    errors: Floats = np.where(z > 0, np.linalg.norm(projected - pixels, axis=1), np.inf)
    return errors


def projections(
    world_from_cam: Floats, points: Floats, intrinsics: Floats
) -> tuple[Floats, Floats]:
    """Pixels (n, 2) of points (n, 3) in the world, and z (n,) along the camera's axis; meaningless
    where z <= 0.
    """
    local = (points - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    z = local[:, 2]
    rays = local @ intrinsics.T
    return rays[:, :2] / np.where(z > 0, z, 1.0)[:, None], z


def whitening(
    world_from_cam: Floats,
    points: Floats,
    intrinsics: Floats,
    roots: Floats | None,
    settings: PnpSettings,
) -> Floats:
    """Inverse Cholesky roots (n, 2, 2) of the covariances of residuals: noise of the feature and of
    the point.
    """
    covariance = np.tile(settings.noise_px**2 * np.eye(2), (len(points), 1, 1))
    if roots is not None:
        _, by_position, _ = _derivatives(world_from_cam, points, intrinsics)
        projected = by_position @ roots
        covariance += projected @ projected.swapaxes(1, 2)
    return np.linalg.inv(np.linalg.cholesky(covariance))


def linearized(
    world_from_cam: Floats, points: Floats, pixels: Floats, intrinsics: Floats, white: Floats
) -> tuple[Floats, Floats]:
    """Residuals (n, 2) in standard deviations, and their derivatives (n, 2, 6) by (position,
    rotation).
    """
    projected, by_position, by_rotation = _derivatives(world_from_cam, points, intrinsics)
    residuals = (white @ (projected - pixels)[..., None])[..., 0]
    return residuals, white @ np.concatenate([by_position, by_rotation], axis=2)


def _derivatives(
    world_from_cam: Floats, points: Floats, intrinsics: Floats
) -> tuple[Floats, Floats, Floats]:
    """Pixels (n, 2) of points, and how they move (n, 2, 3) with the camera's position in the world,
    and (n, 2, 3) with its rotation about its own axes.

    Points that come to lie behind the camera are kept in front of it, where their residuals are
    beyond every limit.
    """
    rotation = world_from_cam[:3, :3]
    local = (points - world_from_cam[:3, 3]) @ rotation
    middle = len(local) // 2
    z = np.maximum(local[:, 2], _MIN_DEPTH * np.partition(np.abs(local[:, 2]), middle)[middle])
    x = local[:, 0] / z
    y = local[:, 1] / z
    fx = intrinsics[0, 0]
    fy = intrinsics[1, 1]
    u = fx * x
    v = fy * y
    by_local = np.zeros((len(points), 2, 3))
    by_rotation = np.zeros((len(points), 2, 3))
    by_local[:, 0, 0] = fx / z
    by_local[:, 0, 2] = -u / z
    by_local[:, 1, 1] = fy / z
    by_local[:, 1, 2] = -v / z
    by_rotation[:, 0, 0] = u * y
    by_rotation[:, 0, 1] = -fx - u * x
    by_rotation[:, 0, 2] = fx * y
    by_rotation[:, 1, 0] = fy + v * y
    by_rotation[:, 1, 1] = -v * x
    by_rotation[:, 1, 2] = -fy * x
    pixels = np.stack([u, v], axis=1) + intrinsics[:2, 2]
    return pixels, (by_local.reshape(-1, 3) @ -rotation.T).reshape(-1, 2, 3), by_rotation


def _normal_equations(
    residuals: Floats, jacobian: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Hessian (6, 6) and gradient (6,) of half the weighted sum of squares."""
    rows = jacobian.reshape(-1, 6)
    weighted = rows * np.repeat(weights, 2)[:, None]
    return weighted.T @ rows, weighted.T @ residuals.ravel()


def residual_scale(residuals: Floats) -> float:
    """Robust standard deviation, per axis, of residuals (n, 2): their median length is 1.18 of
    it.
    """
    return float(max(np.median(np.linalg.norm(residuals, axis=1)) / np.sqrt(2 * np.log(2)), 1e-3))


def moved(world_from_cam: Floats, step: Floats) -> Floats:
    """The pose after a step (6,) of (position in the world, rotation in the camera frame)."""
    angle = float(np.linalg.norm(step[3:]))
    axis = cross_matrix(step[3:] / max(angle, 1e-12))
    moved = world_from_cam.copy()
    moved[:3, :3] = moved[:3, :3] @ (
        np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis
    )
    moved[:3, 3] += step[:3]
    return moved
