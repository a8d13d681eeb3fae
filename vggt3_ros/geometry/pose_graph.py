"""Poses from relative measurements: the error of a chain is spread over it where loops close it.

Gauss-Newton with damping on sparse normal equations (Grisetti et al. 2010). Loops may be false.
A residual does not tell: one stiff loop bends any chain until it fits. What tells is how far a
loop is from what all other measurements let expect, over the covariance of both (Baarda 1968): the
worst one is taken out until the rest agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask, cross_matrix
from vggt3_ros.geometry.uncertainty import GATE

_ITERATIONS = 30  # of one solution
_SETTLED = 1e-6  # relative gain of an iteration that ends a solution
_DAMPING = 1e-6
_MAX_DAMPING = 1e9


@dataclass(frozen=True, eq=False)
class RelativePoses:
    """E measurements between the nodes `first` (E,) and `second` (E,) of a graph.

    first_from_second (E, 4, 4) float64; covariance (E, 6, 6) of its translation, in the axes of
    the first, and of its rotation, as a vector in the axes of the second; doubtful (E,): those
    that may be false. Raises InputError where shapes disagree or a covariance is not positive.
    """

    first: Indices
    second: Indices
    first_from_second: Floats
    covariance: Floats
    doubtful: Mask

    def __post_init__(self) -> None:
        count = len(self.first)
        shapes = [self.second.shape, self.first_from_second.shape, self.covariance.shape]
        shapes.append(self.doubtful.shape)
        if shapes != [(count,), (count, 4, 4), (count, 6, 6), (count,)]:
            raise InputError(
                f"{count} relative poses need second ({count},), poses ({count}, 4, 4), covariance"
                f" ({count}, 6, 6) and doubtful ({count},); got {shapes}"
            )
        if not (np.isfinite(self.first_from_second).all() and np.isfinite(self.covariance).all()):
            raise InputError("a relative pose, or its covariance, is not finite; leave it out")
        if count and not (np.linalg.eigvalsh(self.covariance)[:, 0] > 0).all():
            raise InputError("the covariance of a relative pose must be positive definite")

    def joined(self, other: RelativePoses) -> RelativePoses:
        """These measurements, then the others."""
        return RelativePoses(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.first_from_second, other.first_from_second]),
            np.concatenate([self.covariance, other.covariance]),
            np.concatenate([self.doubtful, other.doubtful]),
        )


@dataclass(frozen=True, eq=False)
class GraphSolution:
    """world_from_cam (K, 4, 4); believed (E,): all but those of the doubtful measurements that the
    rest contradicts.
    """

    world_from_cam: Floats
    believed: Mask


def solve_pose_graph(world_from_cam: Floats, edges: RelativePoses) -> GraphSolution:
    """Poses (K, 4, 4) that agree best with relative measurements, from given ones on; the first
    stays where it is.

    A node that no measurement ties to the first keeps its pose. Raises InputError for measurements
    between nodes that do not exist.
    """
    ends = np.concatenate([edges.first, edges.second])
    if len(ends) and not (0 <= ends.min() and ends.max() < len(world_from_cam)):
        raise InputError(
            f"relative poses name nodes {ends.min()} to {ends.max()} of {len(world_from_cam)};"
            " expected numbers from 0"
        )
    graph = _Graph(edges, len(world_from_cam))
    believed = np.ones(len(edges.first), dtype=bool)
    poses = world_from_cam.astype(np.float64)
    while believed.any():
        poses = graph.solved(poses, believed)
        suspects = np.flatnonzero(edges.doubtful & believed)
        squared = graph.contradiction(poses, believed, suspects)
        if not squared.max(initial=0) > GATE:
            break
        believed[suspects[squared.argmax()]] = False
    return GraphSolution(poses, believed)


class _Graph:
    """Measurements with the inverse roots (E, 6, 6) of their covariances."""

    def __init__(self, edges: RelativePoses, count: int) -> None:
        self.edges = edges
        self.count = count
        self.white = np.linalg.inv(np.linalg.cholesky(edges.covariance))

    def solved(self, poses: Floats, which: Mask) -> Floats:
        """Poses (K, 4, 4) of least squares of those measurements (E,), from these poses on."""
        damping = _DAMPING
        residuals = self._residuals(poses)
        cost = float((residuals[which] ** 2).sum())
        for _ in range(_ITERATIONS):
            moved = _moved(poses, self._step(poses, residuals, which, damping))
            there = self._residuals(moved)
            new = float((there[which] ** 2).sum())
            if new > cost:
                damping *= 10
                if damping > _MAX_DAMPING:
                    break
                continue
            settled = cost - new <= _SETTLED * cost
            poses = moved
            residuals = there
            cost = new
            damping = max(_DAMPING, damping / 10)
            if settled:
                break
        return poses

    def contradiction(self, poses: Floats, which: Mask, suspects: Indices) -> Floats:
        """Squared distances (S,) of suspects from what the others of those measurements (E,) let
        expect, over the covariances of both; poses (K, 4, 4) solve all of them.
        """
        from scipy.sparse.linalg import splu

        if len(suspects) == 0:
            return np.zeros(0)
        jacobian = self._jacobian(poses)
        rows = (6 * suspects[:, None] + np.arange(6)).ravel()
        own = jacobian[rows].toarray()
        spread = own @ splu(_normal(jacobian, which, _DAMPING)).solve(own.T)
        parts = spread.reshape(len(suspects), 6, len(suspects), 6)
        leverage = parts[np.arange(len(suspects)), :, np.arange(len(suspects))]
        rest = np.eye(6) - leverage + _DAMPING * np.eye(6)
        residuals = self._residuals(poses)[suspects]
        squared: Floats = (residuals * np.linalg.solve(rest, residuals[..., None])[..., 0]).sum(1)
        return squared

    def _residuals(self, poses: Floats) -> Floats:
        """Errors (E, 6) in standard deviations."""
        from scipy.spatial.transform import Rotation

        measured = self.edges.first_from_second
        found = _relative(poses, self.edges)
        off = measured[:, :3, :3].transpose(0, 2, 1) @ found[:, :3, :3]
        rotation = Rotation.from_matrix(off).as_rotvec()
        residuals = np.concatenate([found[:, :3, 3] - measured[:, :3, 3], rotation], axis=1)
        white: Floats = (self.white @ residuals[..., None])[..., 0]
        return white

    def _step(self, poses: Floats, residuals: Floats, which: Mask, damping: float) -> Floats:
        """Step (K, 6) of (position in the world, rotation in the camera frame)."""
        from scipy.sparse.linalg import spsolve

        jacobian = self._jacobian(poses)
        gradient = jacobian.T @ (which[:, None] * residuals).ravel()
        step = np.zeros(6 * self.count)
        step[6:] = -spsolve(_normal(jacobian, which, damping), gradient)
        return step.reshape(-1, 6)

    def _jacobian(self, poses: Floats) -> Any:
        """Sparse (6 E, 6 (K - 1)) of the residuals by all poses but the first."""
        from scipy.sparse import csr_matrix

        edges = self.edges
        by_first, by_second = self._derivatives(poses)
        blocks = np.stack([self.white @ by_first, self.white @ by_second])
        row = 6 * np.arange(len(edges.first))[None, :, None, None] + np.arange(6)[:, None]
        ends = np.stack([edges.first, edges.second])
        column = 6 * (ends[:, :, None, None] - 1) + np.arange(6)
        row, column = np.broadcast_arrays(row, column)
        row = np.broadcast_to(row, blocks.shape)
        free = column >= 0
        shape = (6 * len(edges.first), 6 * (self.count - 1))
        return csr_matrix((blocks[free], (row[free], column[free])), shape=shape)

    def _derivatives(self, poses: Floats) -> tuple[Floats, Floats]:
        """How residuals, not yet whitened, change (E, 6, 6) with the poses of both ends."""
        from scipy.spatial.transform import Rotation

        edges = self.edges
        found = _relative(poses, edges)
        to_first = poses[edges.first, :3, :3].transpose(0, 2, 1)
        off = edges.first_from_second[:, :3, :3].transpose(0, 2, 1) @ found[:, :3, :3]
        turn = cross_matrix(Rotation.from_matrix(off).as_rotvec())
        # inverse of the right Jacobian of the logarithm, to second order
        inverse = np.eye(3) + turn / 2 + turn @ turn / 12
        by_first = np.zeros((len(found), 6, 6))
        by_second = np.zeros((len(found), 6, 6))
        by_first[:, :3, :3] = -to_first
        by_second[:, :3, :3] = to_first
        by_first[:, :3, 3:] = cross_matrix(found[:, :3, 3])
        by_first[:, 3:, 3:] = -inverse @ found[:, :3, :3].transpose(0, 2, 1)
        by_second[:, 3:, 3:] = inverse
        return by_first, by_second


def _normal(jacobian: Any, which: Mask, damping: float) -> Any:
    """Sparse normal equations of those measurements (E,), damped; what nothing measures stays."""
    from scipy.sparse import csc_matrix, diags

    used = jacobian[np.repeat(which, 6)]
    normal = used.T @ used
    diagonal = normal.diagonal()
    return csc_matrix(normal + diags(np.where(diagonal > 0, damping * diagonal, 1.0)))


def _relative(poses: Floats, edges: RelativePoses) -> Floats:
    """first_from_second (E, 4, 4) as poses (K, 4, 4) have it."""
    relative: Floats = np.linalg.inv(poses[edges.first]) @ poses[edges.second]
    return relative


def _moved(poses: Floats, step: Floats) -> Floats:
    """Poses (K, 4, 4) after a step (K, 6) of (position in the world, rotation in the camera)."""
    from scipy.spatial.transform import Rotation

    moved = poses.copy()
    turned = Rotation.from_rotvec(step[:, 3:]).as_matrix()
    moved[:, :3, :3] = moved[:, :3, :3] @ turned
    moved[:, :3, 3] += step[:, :3]
    return moved
