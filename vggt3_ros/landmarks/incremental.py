"""Poses to start from where the given ones are too rough: keyframes placed one after the other by
the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.landmarks.bundle_adjustment import PosePriors, adjust
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.pnp import PnpSettings, solve_pnp
from vggt3_ros.landmarks.rigid import shared_counts
from vggt3_ros.landmarks.tensors import any_similarity, transformed_poses
from vggt3_ros.landmarks.tracks import Tracks
from vggt3_ros.landmarks.triangulation import MIN_ANGLE, rays_of, triangulate

_PAIRS = 20  # tried as the first two
# median angle between the rays of the first two, from which more is not better
_WIDE_ENOUGH = np.radians(8)
_MIN_SEEN = 20  # points that place a keyframe
_TOLERANCE = 3.0  # pixels of the searched image
_GROWTH = 1.3  # keyframes placed since the last adjustment, as a factor
# deviation of poses, in baselines of the first two, that keeps an adjustment from drifting away
_LOOSE = 10.0


def placed_by_images(
    every: Tracks,
    features: Sequence[Features],
    intrinsics: Floats,
    given: Floats,
) -> tuple[Floats, Mask] | None:
    """Poses (K, 4, 4) of keyframes placed by their tracks alone, then rotated, moved and scaled to
    the given poses; and which keyframes (K,) were placed. The others see too little of them and
    keep their given pose. None where no two keyframes can begin.

    intrinsics (K, 3, 3); points whose rays spread less than MIN_ANGLE place nothing.
    """
    placer = _Placer(every, features, intrinsics)
    if not placer.begin():
        return None
    while placer.place_next():
        pass
    poses = placer.world_from_cam[placer.placed]
    given_from_placed = any_similarity(poses, given[placer.placed])
    result = given.copy()
    result[placer.placed] = transformed_poses(given_from_placed, poses)
    return result, placer.placed


class _Placer:
    def __init__(self, every: Tracks, features: Sequence[Features], intrinsics: Floats) -> None:
        self.every = every
        self.intrinsics = intrinsics
        count = len(features)
        first = np.concatenate([[0], np.cumsum([len(one) for one in features])])
        every_pixel = np.concatenate([one.pixels for one in features]).astype(np.float64)
        self.pixels = every_pixel[first[every.keyframe] + every.feature]
        self.rays = rays_of(self.pixels, intrinsics[every.keyframe])
        self.tolerance = _TOLERANCE * float(np.median([one.pixel_size for one in features]))
        self.world_from_cam = np.tile(np.eye(4), (count, 1, 1))
        self.placed = np.zeros(count, dtype=bool)
        self.hopeless = np.zeros(count, dtype=bool)
        self.adjusted = 2

    def begin(self) -> bool:
        """Place the two keyframes that see most in common from places far enough apart."""
        import cv2

        best = None
        score = 0.0
        for i, j, a, b in self._likely_pairs():
            tolerance = self.tolerance / self.intrinsics[i, 0, 0]
            cv2.setRNGSeed(0)  # the same tracks begin with the same pair
            essential, mask = cv2.findEssentialMat(
                a, b, np.eye(3), cv2.USAC_ACCURATE, 0.999, tolerance
            )
            if essential is None or essential.shape != (3, 3):
                continue
            _, rotation, translation, _ = cv2.recoverPose(
                essential, a, b, np.eye(3), mask=mask.copy()
            )
            world_from_second = np.eye(4)
            world_from_second[:3, :3] = rotation.T
            world_from_second[:3, 3] = -rotation.T @ translation[:, 0]
            poses = np.stack([np.eye(4), world_from_second])
            inliers = np.flatnonzero(mask.ravel())
            rays = np.concatenate(
                [np.stack([a, b], 1)[inliers].reshape(-1, 2), np.ones((2 * len(inliers), 1))],
                axis=1,
            )
            angle = triangulate(
                np.tile(poses, (len(inliers), 1, 1)), rays, np.repeat(np.arange(len(inliers)), 2)
            )[1]
            value = len(inliers) * min(1.0, float(np.median(angle)) / _WIDE_ENOUGH)
            if value > score:
                best = (i, j, world_from_second)
                score = value
        if best is None:
            return False
        i, j, self.world_from_cam[j] = best
        self.placed[[i, j]] = True
        return True

    def place_next(self) -> bool:
        """Place the keyframe that sees most of the points known so far; False when none can be
        placed any more.
        """
        _, numbers, points = self._points()
        known = (
            np.isin(self.every.point, numbers) & ~(self.placed | self.hopeless)[self.every.keyframe]
        )
        shared = np.bincount(self.every.keyframe[known], minlength=len(self.placed))
        keyframe = int(shared.argmax())
        if shared[keyframe] < _MIN_SEEN:
            return False
        seen = np.flatnonzero(known & (self.every.keyframe == keyframe))
        position = points[np.searchsorted(numbers, self.every.point[seen])]
        settings = PnpSettings(inlier_px=self.tolerance)
        found = solve_pnp(position, self.pixels[seen], None, self.intrinsics[keyframe], settings)
        if found is None or found.inliers.sum() < max(_MIN_SEEN, len(seen) / 2):
            self.hopeless[keyframe] = True
            return True
        self.world_from_cam[keyframe] = found.world_from_cam
        self.placed[keyframe] = True
        self.hopeless[:] = False  # it brings points that may help the others
        if self.placed.sum() >= _GROWTH * self.adjusted or self.placed.all():
            self._adjust()
        return True

    def _likely_pairs(self) -> list[tuple[int, int, Floats, Floats]]:
        """The pairs of keyframes with most tracks in common: their numbers, and the rays (M, 2) of
        both.
        """
        count = len(self.placed)
        shared = np.triu(shared_counts(self.every.keyframe, self.every.point, count), 1)
        pairs = []
        for flat in np.argsort(-shared, axis=None, kind="stable")[:_PAIRS]:
            i, j = divmod(int(flat), count)
            if shared[i, j] < _MIN_SEEN:
                break
            rows = [np.flatnonzero(self.every.keyframe == k) for k in (i, j)]
            points = [self.every.point[row] for row in rows]
            _, a, b = np.intersect1d(points[0], points[1], return_indices=True)
            pairs.append((i, j, self.rays[rows[0][a], :2], self.rays[rows[1][b], :2]))
        return pairs

    def _points(self) -> tuple[Observations, Indices, Floats]:
        """Observations of the points that placed keyframes agree on, those points' numbers among
        all, and places.
        """
        which = self.placed[self.every.keyframe]
        for _ in range(2):  # all observations, then those that agree
            counts = np.bincount(self.every.point[which], minlength=self.every.points)
            which = which & (counts[self.every.point] >= 2)
            tracks = self.every.select(which)
            numbers = np.unique(self.every.point[which])
            points, angle = triangulate(
                self.world_from_cam[tracks.keyframe], self.rays[which], tracks.point
            )
            residual = project(self._observations(tracks, which), self.world_from_cam, points)[0]
            error = np.linalg.norm(residual, axis=1)
            index = np.flatnonzero(which)
            which = which.copy()
            wrong = (error > 2 * self.tolerance) | (angle[tracks.point] < MIN_ANGLE)
            which[index[wrong]] = False
        counts = np.bincount(self.every.point[which], minlength=self.every.points)
        which &= counts[self.every.point] >= 2
        kept = np.unique(self.every.point[which])
        return (
            self._observations(self.every.select(which), which),
            kept,
            points[np.searchsorted(numbers, kept)],
        )

    def _adjust(self) -> None:
        """Adjust what is placed so far; nothing but the images has a say."""
        observations, _, points = self._points()
        if len(points) == 0:
            return
        count = len(self.placed)
        priors = PosePriors(
            self.world_from_cam.copy(), np.full(count, _LOOSE), np.full(count, _LOOSE)
        )
        noise = self.tolerance / _TOLERANCE
        found = adjust(
            observations, self.world_from_cam, points, priors, noise_px=noise, iterations=20
        )
        self.world_from_cam[self.placed] = found.world_from_cam[self.placed]
        self.adjusted = int(self.placed.sum())

    def _observations(self, tracks: Tracks, which: Mask) -> Observations:
        return Observations(tracks.keyframe, tracks.point, self.pixels[which], self.intrinsics)
