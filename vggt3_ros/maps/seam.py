"""Landmarks of two maps joined into one: those that are the same become one, and what lies about
the seam is adjusted to all images of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.landmarks.bundle_adjustment import Adjusted, PosePriors, adjust
from vggt3_ros.landmarks.landmarks import Landmarks, are_determined, lower_roots
from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.retrieval import describe
from vggt3_ros.landmarks.triangulation import refine_points
from vggt3_ros.progress import Progress

_MAX_ADJUSTED = 2_000  # landmarks that take part in the adjustment of poses
_MAX_FREE = (
    60  # keyframes of the first map that are adjusted: those that share most with the second
)
_HELD = 1e-6, 1e-7  # deviations of keyframes that are held, which none of the images can move
_NEVER = 1e9  # deviations at which a prior loses its say
_ROAM = 0.02  # of the distance to the seam, that keyframes of the second map may be off by
_OUTLIER = 4.0  # deviations of the noise beyond which an observation is left out
_MIN_LIMIT = 1.5  # pixels, up to which none is
# Fraction of the landmarks that are in both maps whose observations in both agree in the end.
_MIN_AGREEING = 0.7


@dataclass(frozen=True, eq=False)
class Joined:
    """landmarks of keyframes of a, then of b, in the frame of a; joined: how many of them both saw;
    agreeing: the fraction of those that both see where they are; moved: the farthest that a
    keyframe of a was moved, in the unit of the map.
    """

    landmarks: Landmarks
    joined: int
    agreeing: float
    moved: float

    @property
    def objection(self) -> str | None:
        """Why the two cannot be one map; None if they can."""
        if self.agreeing < _MIN_AGREEING:
            return (
                f"of {self.joined} landmarks in both maps only {self.agreeing:.0%} are seen where"
                f" the others are, {_MIN_AGREEING:.0%} are needed: the maps contradict each other"
            )
        return None


def join(
    a: Landmarks, b: Landmarks, pairs: Indices, budget: int, progress: Progress | None = None
) -> Joined:
    """Join maps a and b, given in the frame of a, by pairs (M, 2) of landmarks that are the same.

    Keyframes of a that see a pair, and all of b, are adjusted; those of a beyond them are held. At
    most `budget` landmarks stay, such that every keyframe keeps those seen most often.
    progress(0..1) may raise to cancel.
    """
    both = _Both.of(a, b, pairs)
    free = both.free_keyframes()
    found, involved = _adjusted(both, free, progress)
    poses = both.world_from_cam.copy()
    moved = free[involved]
    poses[involved[moved]] = found.world_from_cam[moved]
    noise = max(a.noise_px, b.noise_px)
    points = _placed(both, poses, free, noise)
    agreeing = _agreeing(points, both, len(pairs))
    landmarks = _landmarks(both, poses, _covariance(both, involved, found), points, noise, budget)
    shift = np.linalg.norm((poses - both.world_from_cam)[: len(a.world_from_cam), :3, 3], axis=1)
    return Joined(landmarks, len(pairs), agreeing, float(shift.max(initial=0.0)))


class _Both(NamedTuple):
    """Two maps of K keyframes together, those of a first: of N points, first those of a, and O
    observations sorted by point.

    shared (M,): points that both saw. number (Nb,): of the landmarks of b among the points.
    """

    a: Landmarks
    b: Landmarks
    world_from_cam: Floats
    intrinsics: Floats
    keyframe: Indices
    point: Indices
    pixels: Floats
    positions: Floats
    shared: Indices
    number: Indices

    @staticmethod
    def of(a: Landmarks, b: Landmarks, pairs: Indices) -> _Both:
        """Both maps, landmarks of `pairs` (M, 2) made one."""
        number = np.full(len(b), -1)
        number[pairs[:, 1]] = pairs[:, 0]
        alone = np.flatnonzero(number < 0)
        number[alone] = len(a) + np.arange(len(alone))
        keyframe = np.concatenate([a.observed_from, len(a.world_from_cam) + b.observed_from])
        point = np.concatenate([a.observed, number[b.observed]])
        order = np.lexsort((keyframe, point))
        return _Both(
            a=a,
            b=b,
            world_from_cam=np.concatenate([a.world_from_cam, b.world_from_cam]),
            intrinsics=np.concatenate([a.intrinsics, b.intrinsics]),
            keyframe=keyframe[order].astype(np.int64),
            point=point[order].astype(np.int64),
            pixels=np.concatenate([a.pixels, b.pixels])[order].astype(np.float64),
            positions=np.concatenate([a.positions, b.positions[alone]]).astype(np.float64),
            shared=pairs[:, 0],
            number=number,
        )

    def free_keyframes(self) -> Mask:
        """Keyframes (K,) that are adjusted: of a those that see most of what b saw too, and all of
        b.
        """
        of_a = len(self.a.world_from_cam)
        free = np.arange(len(self.world_from_cam)) >= of_a
        both = np.bincount(self.keyframe[np.isin(self.point, self.shared)], minlength=len(free))
        most = np.argsort(-both[:of_a], kind="stable")[:_MAX_FREE]
        free[most[both[most] > 0]] = True
        return free

    def of_both(self, of_a: NDArray[np.generic], of_b: NDArray[np.generic]) -> NDArray[np.generic]:
        """What the landmarks of a and of b have, for all points: those of a where both have it."""
        alone = self.number >= len(self.a)
        return np.concatenate([of_a, of_b[alone]])


def _adjusted(both: _Both, free: Mask, progress: Progress | None) -> tuple[Adjusted, Indices]:
    """One adjustment of the free keyframes (K,) by the points that they see; and the keyframes that
    had a say in it.
    """
    seen = np.zeros(len(both.positions), dtype=bool)
    seen[both.point[free[both.keyframe]]] = True
    worth = np.bincount(both.point, minlength=len(seen)).astype(np.float64)
    worth[both.shared] += worth.max(initial=0.0)  # the seam first
    chosen = covering(both.keyframe, both.point, np.where(seen, worth, -1.0), _MAX_ADJUSTED)
    chosen &= seen
    which = chosen[both.point]
    involved, keyframe = np.unique(both.keyframe[which], return_inverse=True)
    numbers, point = np.unique(both.point[which], return_inverse=True)
    observations = Observations(keyframe, point, both.pixels[which], both.intrinsics[involved])
    found = adjust(
        observations,
        both.world_from_cam[involved],
        both.positions[numbers],
        _priors(both, free, involved),
        noise_px=max(both.a.noise_px, both.b.noise_px),
        prior_outlier=_NEVER,
        progress=progress,
    )
    return found, involved


def _priors(both: _Both, free: Mask, involved: Indices) -> PosePriors:
    """Where keyframes are expected: those of a by what their map says, those of b less, the farther
    from the seam.
    """
    covariance = np.concatenate([both.a.pose_covariance, both.b.pose_covariance]).astype(float)
    position = np.sqrt(np.trace(covariance[:, :3, :3], axis1=1, axis2=2) / 3)
    rotation = np.sqrt(np.trace(covariance[:, 3:, 3:], axis1=1, axis2=2) / 3)
    cameras = both.world_from_cam[:, :3, 3]
    seam = np.median(both.positions[both.shared], axis=0)
    of_b = np.arange(len(cameras)) >= len(both.a.world_from_cam)
    position = np.where(of_b, position + _ROAM * np.linalg.norm(cameras - seam, axis=1), position)
    rotation = np.where(of_b, rotation + _ROAM, rotation)
    position = np.where(free, np.maximum(position, _HELD[0]), _HELD[0])
    rotation = np.where(free, np.maximum(rotation, _HELD[1]), _HELD[1])
    return PosePriors(both.world_from_cam[involved], position[involved], rotation[involved])


class _Placed(NamedTuple):
    """Points (N, 3) with covariances (N, 3, 3), and the observations (O,) and points (N,) that
    stay.
    """

    positions: Floats
    covariance: Floats
    observed: Mask
    kept: Mask


def _placed(both: _Both, poses: Floats, free: Mask, noise: float) -> _Placed:
    """The points that free keyframes (K,) see, placed anew; all others stay where they are."""
    positions = both.positions.copy()
    roots = both.of_both(both.a.covariance_roots, both.b.covariance_roots).astype(np.float64)
    covariance = roots @ roots.swapaxes(-1, -2)
    touched = np.zeros(len(positions), dtype=bool)
    touched[both.point[free[both.keyframe]]] = True
    observed = np.ones(len(both.point), dtype=bool)
    for _ in range(2):  # the second time without what the first found to be wrong
        which = observed & touched[both.point]
        numbers, point = np.unique(both.point[which], return_inverse=True)
        observations = Observations(
            both.keyframe[which], point, both.pixels[which], both.intrinsics
        )
        positions[numbers], covariance[numbers] = refine_points(
            observations, poses, positions[numbers], noise
        )
        error = np.linalg.norm(project(observations, poses, positions[numbers])[0], axis=1)
        agrees = error <= max(_OUTLIER * noise, _MIN_LIMIT)
        observed[np.flatnonzero(which)[~agrees]] = False
        seen = np.bincount(both.point[observed], minlength=len(positions))
        kept = (seen >= 2) & are_determined(positions, covariance)
        observed &= kept[both.point]
    return _Placed(positions, covariance, observed, kept)


def _agreeing(points: _Placed, both: _Both, joined: int) -> float:
    """The fraction of the joined points that keyframes of either map still see."""
    of_b = both.keyframe >= len(both.a.world_from_cam)
    seen = np.ones(len(both.shared), dtype=bool)
    for side in (~of_b, of_b):
        seen &= np.isin(both.shared, both.point[points.observed & side])
    return float(seen.sum() / max(joined, 1))


def _covariance(both: _Both, involved: Indices, found: Adjusted) -> NDArray[np.float32]:
    """Covariance (K, 6, 6) of the keyframes: as their map has it, and for those of b how uncertain
    the seam is.
    """
    covariance = np.concatenate([both.a.pose_covariance, both.b.pose_covariance]).copy()
    of_b = involved >= len(both.a.world_from_cam)
    covariance[involved[of_b]] += found.pose_covariance[of_b].astype(np.float32)
    return covariance


def _landmarks(
    both: _Both,
    poses: Floats,
    covariance: NDArray[np.float32],
    points: _Placed,
    noise: float,
    budget: int,
) -> Landmarks:
    a, b = both.a, both.b
    observed = points.observed
    if points.kept.sum() > budget:
        worth = np.bincount(both.point[observed], minlength=len(points.kept)).astype(np.float64)
        chosen = points.kept & covering(
            both.keyframe[observed], both.point[observed], worth, budget
        )
        observed = observed & chosen[both.point]
    numbers, point = np.unique(both.point[observed], return_inverse=True)
    keyframe = both.keyframe[observed]
    order = np.lexsort((point, keyframe))
    repeated = both.of_both(a.repeated, b.repeated).astype(bool)
    paired = both.number < len(a)
    repeated[both.number[paired]] |= b.repeated[paired]
    looks = both.of_both(a.descriptors, b.descriptors).astype(np.uint8)
    return replace(
        a,
        world_from_cam=poses,
        pose_covariance=covariance,
        intrinsics=both.intrinsics,
        keyframe_descriptors=np.concatenate([a.keyframe_descriptors, _described(b, a.vocabulary)]),
        positions=points.positions[numbers].astype(np.float32),
        covariance_roots=lower_roots(points.covariance[numbers]),
        descriptors=looks[numbers],
        repeated=repeated[numbers],
        observed_from=keyframe[order].astype(np.int32),
        observed=point[order].astype(np.int32),
        pixels=both.pixels[observed][order].astype(np.float32),
        noise_px=noise,
    )


def _described(landmarks: Landmarks, vocabulary: NDArray[np.float32]) -> NDArray[np.int8]:
    """The keyframes, by the landmarks that they see, in the words of another map."""
    return np.stack(
        [
            describe(landmarks.descriptors[landmarks.seen_from(keyframe)], vocabulary)
            for keyframe in range(len(landmarks.world_from_cam))
        ]
    )


def covering(keyframe: Indices, point: Indices, worth: Floats, most: int) -> Mask:
    """The `most` points (N,) such that each keyframe keeps the worthiest of those that it sees:
    taken in turns.

    keyframe (O,) and point (O,) of the observations; worth (N,).
    """
    order = np.lexsort((point, -worth[point], keyframe))
    first = np.searchsorted(keyframe[order], keyframe[order])
    turn = np.full(len(worth), len(point))
    np.minimum.at(turn, point[order], np.arange(len(order)) - first)
    chosen = np.zeros(len(worth), dtype=bool)
    chosen[np.lexsort((-worth, turn))[:most]] = True
    return chosen
