"""Similarity transforms, and their robust estimation from corresponding camera positions (Umeyama
1991).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.robust import PER_MEDIAN
from vggt3_ros.geometry.se3 import chordal_mean, rotation_angle, se3

_HYPOTHESES = 200  # with half of the pairs wrong, all triples are mixed once in 10^11 times
_SEED = 0
_MIN_TOLERANCE = 0.01  # of the extent
# of the extent; a pair further off than that is no worse than one this far off
_CLEARLY_WRONG = 0.1


@dataclass(frozen=True, eq=False)
class Sim3:
    """x -> scale * rotation @ x + translation. rotation (3, 3), translation (3,), float64."""

    scale: float
    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InputError(
                f"the scale of a similarity must be positive and finite, got {self.scale}"
            )

    @staticmethod
    def identity() -> Sim3:
        """The transform that changes nothing."""
        return Sim3(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    def points(self, points: Tensor) -> Tensor:
        """Transform points (..., 3), keeping their dtype and device."""
        rotation = self.rotation.to(points)
        translation = self.translation.to(points)
        return self.scale * points @ rotation.T + translation

    def poses(self, b_from_cam: Tensor) -> Tensor:
        """Transform camera poses b_from_cam (..., 4, 4) into rigid a_from_cam: the scale moves the
        positions only.
        """
        rotation = self.rotation.to(b_from_cam) @ b_from_cam[..., :3, :3]
        return se3(rotation, self.points(b_from_cam[..., :3, 3]))

    def __matmul__(self, b_from_c: Sim3) -> Sim3:
        """a_from_b @ b_from_c is a_from_c."""
        return Sim3(
            self.scale * b_from_c.scale,
            self.rotation @ b_from_c.rotation,
            self.points(b_from_c.translation),
        )

    def inverse(self) -> Sim3:
        """The transform back: b_from_a, where this one is a_from_b."""
        rotation = self.rotation.T
        return Sim3(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def matrix(self) -> Tensor:
        """As a homogeneous matrix (4, 4)."""
        return se3(self.scale * self.rotation, self.translation)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "scale": self.scale,
            "rotation": self.rotation.tolist(),
            "translation": self.translation.tolist(),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Sim3:
        """The transform of a dictionary that `to_dict` made."""
        return Sim3(
            float(data["scale"]),
            torch.tensor(data["rotation"], dtype=torch.float64),
            torch.tensor(data["translation"], dtype=torch.float64),
        )


@dataclass(frozen=True, eq=False)
class Sim3Fit:
    """A robust fit: the transform, which pairs it holds for (N,), and their rms position error in
    target units.
    """

    target_from_source: Sim3
    inliers: Tensor
    residual: float


def umeyama(source: Tensor, target: Tensor) -> Sim3:
    """Least-squares similarity with target ~ sim(source), both (N, 3) (Umeyama 1991, eq. 40-43).

    Raises InputError when fewer than three points are given or they all lie on one line: then the
    rotation about that line is undetermined.
    """
    source = source.double()
    target = target.double()
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise InputError(
            f"source and target must be (N, 3), got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    if len(source) < 3:
        raise InputError(f"a similarity needs at least 3 point pairs, got {len(source)}")
    source_mean = source.mean(0)
    target_mean = target.mean(0)
    a = source - source_mean
    b = target - target_mean
    variance = a.square().sum()
    u, d, vt = torch.linalg.svd(b.T @ a)
    if not bool(d[1] > 1e-9 * d[0]) or not bool(variance > 0):
        raise InputError(
            "the points lie on one line (or coincide), so no similarity is determined; move"
            " sideways too"
        )
    sign = torch.ones(3, dtype=torch.float64, device=source.device)
    if float(torch.linalg.det(u) * torch.linalg.det(vt)) < 0:
        sign[2] = -1
    rotation = u @ torch.diag(sign) @ vt
    scale = float((d * sign).sum() / variance)
    return Sim3(scale, rotation, target_mean - scale * rotation @ source_mean)


def fit_poses(source_poses: Tensor, target_poses: Tensor) -> Sim3:
    """Similarity between corresponding camera poses (N, 4, 4), also when the cameras moved along
    one line.

    The rotation is the chordal mean of the relative orientations; scale and translation follow from
    the positions. Raises InputError when the positions of either side coincide, so that no scale
    can be seen.
    """
    source = source_poses.double()
    target = target_poses.double()
    rotation = _mean_rotation(source, target)
    a = source[:, :3, 3] - source[:, :3, 3].mean(0)
    b = target[:, :3, 3] - target[:, :3, 3].mean(0)
    correlation = (b * (a @ rotation.T)).sum()
    variance = a.square().sum()
    if not bool(correlation > 0) or not bool(variance > 0):
        raise InputError(
            "the two sets of camera positions do not move alike, so no scale can be determined"
        )
    scale = float(correlation / variance)
    return Sim3(
        scale, rotation, target[:, :3, 3].mean(0) - scale * rotation @ source[:, :3, 3].mean(0)
    )


def fit_roughly(source_poses: Tensor, target_poses: Tensor) -> Sim3:
    """Similarity that gives camera poses (N, 4, 4) the middle, the spread and the mean orientation
    of others.

    Unlike fit_poses it needs no motion that is alike, and tells no more than where and how large.
    """
    source = source_poses.double()
    target = target_poses.double()
    rotation = _mean_rotation(source, target)
    scale = spread_ratio(source, target)
    return Sim3(
        scale, rotation, target[:, :3, 3].mean(0) - scale * rotation @ source[:, :3, 3].mean(0)
    )


def spread_ratio(source_poses: Tensor, target_poses: Tensor) -> float:
    """How much wider the positions of target poses spread than those of source poses, both (N, 4,
    4); 1 if unknown.
    """
    spread = [
        float(poses[:, :3, 3].double().std(dim=0).norm()) for poses in (source_poses, target_poses)
    ]
    return spread[1] / spread[0] if min(spread) > 0 else 1.0


def robust_umeyama(source_poses: Tensor, target_poses: Tensor) -> Sim3Fit:
    """Similarity between corresponding camera poses (N, 4, 4) in which some of the pairs may be
    wrong.

    RANSAC over triples of poses, then refitting on the inliers until they stay the same. A pair is
    an inlier when its position agrees within 3 robust deviations of the best hypothesis' errors,
    at least 1 % of the extent (diagonal of the box around the target positions), and its
    orientation within 20 degrees of the fit's median orientation error. Raises InputError for fewer
    than three pairs, non-finite poses, or motion that does not determine the scale.
    """
    source = source_poses.double().cpu()
    target = target_poses.double().cpu()
    if source.shape != target.shape or source.shape[1:] != (4, 4):
        raise InputError(
            f"both pose sets must be (N, 4, 4), got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    count = len(source)
    if count < 3:
        raise InputError(f"aligning a map needs at least 3 frames with pose priors, got {count}")
    if not bool(torch.isfinite(source).all() and torch.isfinite(target).all()):
        raise InputError("poses to be aligned contain NaN or infinity; leave those frames out")
    extent = _extent(target)
    if extent < 1e-6:
        raise InputError(
            "the pose priors do not move (pure rotation or standing still), so they determine no"
            " scale"
        )

    best, best_median = _best_hypothesis(source, target, extent)
    limit = max(3 * PER_MEDIAN * best_median, _MIN_TOLERANCE * extent)
    inliers = torch.zeros(count, dtype=torch.bool)
    for _ in range(20):
        updated = _agreeing(best, source, target, limit)
        if int(updated.sum()) < 3 or torch.equal(updated, inliers):
            break
        inliers = updated
        best = fit_poses(source[inliers], target[inliers])
    if int(inliers.sum()) < 3:
        raise InputError(
            "the pose priors contradict the reconstruction: fewer than 3 of them agree with one"
            " alignment"
        )
    residual = float(
        _position_errors(best, source[inliers], target[inliers]).square().mean().sqrt()
    )
    return Sim3Fit(best, inliers, residual)


def _best_hypothesis(source: Tensor, target: Tensor, extent: float) -> tuple[Sim3, float]:
    """The best of the fits to random triples, and the median of its position errors over all pairs.

    The median decides while it is large. Where most frames stand at one place, every scale has a
    small one: among hypotheses with medians below the tolerance, the errors of all pairs decide,
    outliers limited.
    """
    generator = torch.Generator().manual_seed(_SEED)
    best: tuple[Sim3, float] | None = None
    best_score = (math.inf, math.inf)
    for _ in range(_HYPOTHESES):
        pick = torch.randperm(len(source), generator=generator)[:3]
        try:
            hypothesis = fit_poses(source[pick], target[pick])
        except InputError:
            continue
        errors = _position_errors(hypothesis, source, target)
        median = float(errors.median())
        score = (
            max(median, _MIN_TOLERANCE * extent),
            float(errors.clamp(max=_CLEARLY_WRONG * extent).mean()),
        )
        if score < best_score:
            best = (hypothesis, median)
            best_score = score
    if best is None:
        raise InputError(
            "the pose priors contradict the reconstruction: no three of them agree on a scale"
        )
    return best


def _mean_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Mean rotation (3, 3) from orientations of source poses to those of target poses, (N, 4,
    4).
    """
    return chordal_mean(target[:, :3, :3] @ source[:, :3, :3].transpose(-1, -2))


def _extent(poses: Tensor) -> float:
    positions = poses[:, :3, 3]
    return float((positions.amax(0) - positions.amin(0)).norm())


def _position_errors(sim: Sim3, source: Tensor, target: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(
        sim.points(source[:, :3, 3]) - target[:, :3, 3], dim=-1
    )
    return distance


def _agreeing(sim: Sim3, source: Tensor, target: Tensor, limit: float) -> Tensor:
    rotations = rotation_angle(
        (sim.rotation @ source[:, :3, :3]).transpose(-1, -2) @ target[:, :3, :3]
    )
    upright = rotations < rotations.median() + math.radians(20)
    return (_position_errors(sim, source, target) <= limit) & upright
