"""The poses of several images of one moving camera at once: points fix them, odometry ties them to
each other.

They are one rigid rig, the motions between them being known from odometry, each of which may give
way as far as odometry drifts. So images that see too little to fix a pose by themselves fix one
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.arrays import Floats, cross_matrix
from vggt3_ros.landmarks.levenberg_marquardt import minimised
from vggt3_ros.landmarks.pnp import CAUCHY, linearized, moved, residual_scale

_STEPS = 10
_SETTLED = 1e-4  # squared step, in standard deviations of an observation, that ends the adjustment
# (1 mm)^2 and (0.1 mrad)^2: better is no odometry, also of who stands
_CERTAIN = np.diag([1e-6] * 3 + [1e-8] * 3)
# residuals at the start, in standard deviations, beyond which odometry explains the rest
_ROUGHEST = 3.0


@dataclass(frozen=True, eq=False)
class RigView:
    """One image: points (n, 3) in the world, their pixels (n, 2), inverse roots (n, 2, 2) of the
    residuals' covariances (pnp.whitening), intrinsics (3, 3); newest_from_cam (4, 4) by odometry,
    with its covariance (6, 6), see joint.View.
    """

    points: Floats
    pixels: Floats
    white: Floats
    intrinsics: Floats
    newest_from_cam: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class RigSolution:
    """world_from_cam (V, 4, 4) of all images; covariance (6, 6) of the last one's (position in the
    world, rotation in the camera frame in rad); strain: the largest squared deviation, of six
    degrees of freedom, from odometry.
    """

    world_from_cam: Floats
    covariance: Floats
    strain: float


def adjust_rig(world_from_newest: Floats, views: list[RigView]) -> RigSolution | None:
    """Poses that fit images and odometry best from world_from_newest (4, 4) on, that of the last
    view.

    With Cauchy weights. None when the views do not determine the pose.
    """
    rig = _Rig(views, world_from_newest)
    start = _Linearized.at(_State(world_from_newest, np.zeros((len(views) - 1, 6))), rig)
    found = minimised(start, _STEPS, _SETTLED * rig.limit)
    if found is None:
        return None
    state = found.state
    hessian, _ = found.normal_equations
    try:
        covariance = rig.scale(state) ** 2 * np.linalg.inv(hessian)[:6, :6]
        covariance = (covariance + covariance.T) / 2
        # what is nearly singular has inverses that are no covariances
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return None
    return RigSolution(np.stack(rig.poses(state)), covariance, rig.strain(state))


@dataclass(frozen=True, eq=False)
class _State:
    """world_from_newest (4, 4), and how far (V - 1, 6) the older cameras are from where odometry
    has them: position in the newest camera's axes, rotation in their own.
    """

    world_from_newest: Floats
    drift: Floats

    def stepped(self, step: Floats) -> _State:
        return _State(moved(self.world_from_newest, step[:6]), self.drift + step[6:].reshape(-1, 6))


@dataclass(frozen=True, eq=False)
class _Linearized:
    """A state for `minimised`."""

    rig: _Rig
    state: _State
    cost: float
    normal_equations: tuple[Floats, Floats]

    @staticmethod
    def at(state: _State, rig: _Rig) -> _Linearized:
        hessian, gradient, cost = rig.normal_equations(state)
        return _Linearized(rig, state, cost, (hessian, gradient))

    def stepped(self, step: Floats) -> _Linearized:
        return _Linearized.at(self.state.stepped(step), self.rig)


class _Rig:
    """Images, odometry, and the limit (squared) beyond which residuals lose influence."""

    def __init__(self, views: list[RigView], world_from_newest: Floats) -> None:
        self._views = views
        self._ties = [
            np.linalg.inv(np.linalg.cholesky(view.covariance + _CERTAIN)) for view in views[:-1]
        ]
        start = _State(world_from_newest, np.zeros((len(views) - 1, 6)))
        self.limit = (CAUCHY * min(self.scale(start), _ROUGHEST)) ** 2

    def poses(self, state: _State) -> list[Floats]:
        """world_from_cam of every view."""
        return [state.world_from_newest @ relative for relative in self._relative(state)]

    def scale(self, state: _State) -> float:
        """How many times as large as expected, at least 1, residuals are."""
        residuals = []
        for view, pose in zip(self._views, self.poses(state), strict=True):
            residuals.append(self._residuals(view, pose)[0])
        return max(1.0, residual_scale(np.concatenate(residuals)))

    def strain(self, state: _State) -> float:
        """Largest squared deviation from odometry."""
        strain = 0.0
        for tie, off in zip(self._ties, state.drift, strict=True):
            strain = max(strain, float(np.sum((tie @ off) ** 2)))
        return strain

    def normal_equations(self, state: _State) -> tuple[Floats, Floats, float]:
        """Hessian and gradient, of the newest pose and of the drifts, and cost."""
        size = 6 * len(self._views)
        hessian = np.zeros((size, size))
        gradient = np.zeros(size)
        cost = 0.0
        rotation = state.world_from_newest[:3, :3]
        for number, (view, relative) in enumerate(
            zip(self._views, self._relative(state), strict=True)
        ):
            residuals, jacobian = self._residuals(view, state.world_from_newest @ relative)
            squares = (residuals**2).sum(1)
            cost += self.limit * float(np.log1p(squares / self.limit).sum())
            rows = np.zeros((2 * len(residuals), size))
            rows[:, :6] = (jacobian @ _lever(rotation, relative)).reshape(-1, 6)
            if number < len(self._ties):
                own = slice(6 + 6 * number, 12 + 6 * number)
                rows[:, own] = np.concatenate(
                    [jacobian[..., :3] @ rotation, jacobian[..., 3:]], axis=2
                ).reshape(-1, 6)
                tie = self._ties[number]
                off = self._ties[number] @ state.drift[number]
                hessian[own, own] += tie.T @ tie
                gradient[own] += tie.T @ off
                cost += float(off @ off)
            weighted = rows * np.repeat(1 / (1 + squares / self.limit), 2)[:, None]
            hessian += weighted.T @ rows
            gradient += weighted.T @ residuals.ravel()
        return hessian, gradient, cost

    def _relative(self, state: _State) -> list[Floats]:
        """newest_from_cam of every view."""
        older = zip(self._views[:-1], state.drift, strict=True)
        return [*(moved(view.newest_from_cam, off) for view, off in older), np.eye(4)]

    @staticmethod
    def _residuals(view: RigView, world_from_cam: Floats) -> tuple[Floats, Floats]:
        return linearized(world_from_cam, view.points, view.pixels, view.intrinsics, view.white)


def _lever(rotation: Floats, newest_from_cam: Floats) -> Floats:
    """How a camera of the rig moves (6, 6) with the newest one, whose axes in the world are
    `rotation` (3, 3).
    """
    lever = np.eye(6)
    lever[:3, 3:] = rotation @ cross_matrix(-newest_from_cam[:3, 3])
    lever[3:, 3:] = newest_from_cam[:3, :3].T
    return lever
