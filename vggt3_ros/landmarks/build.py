"""From keyframes with poses to landmarks, and the verdict whether they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.bundle_adjustment import Adjusted, PosePriors, adjust
from vggt3_ros.landmarks.features import Features, FeatureSettings, unit_vectors
from vggt3_ros.landmarks.incremental import placed_by_images
from vggt3_ros.landmarks.landmarks import Landmarks, are_determined, lower_roots
from vggt3_ros.landmarks.observations import Observations, project
from vggt3_ros.landmarks.pairs import candidate_pairs, verified_matches
from vggt3_ros.landmarks.pnp import PnpSettings, solve_pnp
from vggt3_ros.landmarks.retrieval import describe, train_vocabulary
from vggt3_ros.landmarks.tracks import Tracks, build_tracks
from vggt3_ros.landmarks.triangulation import rays_of, refine_points, triangulate
from vggt3_ros.landmarks.verdict import Evidence, Verdict, judge, parts_of

Floats = NDArray[np.float64]
Matches = Mapping[tuple[int, int], NDArray[np.int32]]
Progress = Callable[[float], None]

_ROUNDS = 5
_SETTLED = 0.1  # relative change of the noise between rounds below which nothing is left to find,
_CALM = 10.0  # where residuals at the start of the round lay within so many deviations
_WIDE, _NARROW = 50.0, 3.0  # outlier thresholds, in deviations, of the first and the last rounds
_LEAST_NOISE = 0.1  # of a pixel of the searched image: finer than features are, whatever residuals say
_MEDIAN_NORM = 1.538  # median length of a vector of three standard normals
_SIGMAS = (0.002, np.radians(0.05)), (0.5, np.radians(10))  # least and largest of priors: metres and rad per axis
_ASTRAY = 0.95  # of the usual share of agreeing observations; keyframes with less are placed anew
_LEAST_SEEN = 20  # points that place a keyframe
_GUESS = 1e3  # a pose that is no measurement: deviations are this many times larger


@dataclass(frozen=True)
class LandmarkSettings:
    """How landmarks are made.

    position_sigma (metres, or scene units) and rotation_sigma (rad): how far the given poses may be off; by default
    estimated from what the images say. refine_focal: find one factor of the focal lengths. neighbours: keyframes that
    each is compared with. budget: landmarks that are kept, those seen most often first. adjusted: landmarks that take
    part in the adjustment of poses. least_angle: rad that the rays of a landmark must spread over.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    position_sigma: float | None = None
    rotation_sigma: float | None = None
    refine_focal: bool = False
    neighbours: int = 20
    budget: int = 20_000
    adjusted: int = 2_000
    least_angle: float = float(np.radians(1.5))

    def __post_init__(self) -> None:
        sigmas = (self.position_sigma, self.rotation_sigma)
        if any(sigma is not None and not sigma > 0 for sigma in sigmas):
            raise InputError(f"position_sigma and rotation_sigma must be above 0, or None; got {sigmas}")
        if self.neighbours < 2 or self.budget < 1 or self.adjusted < 1 or not 0 < self.least_angle < 1:
            raise InputError(f"landmark settings are out of range: {self}; see their documentation")


@dataclass(frozen=True, eq=False)
class LandmarkMap:
    """landmarks, None unless verified; the reason for the verdict, and figures as plain data for JSON.

    world_from_cam (K, 4, 4) as adjusted, also where that failed; focal: factor found for the focal lengths.
    """

    landmarks: Landmarks | None
    verified: bool
    reason: str
    report: dict[str, Any]
    world_from_cam: Floats
    focal: float


def match_keyframes(
    features: Sequence[Features],
    world_from_cam: Floats,
    intrinsics: Floats,
    settings: LandmarkSettings | None = None,
    progress: Progress | None = None,
) -> Matches:
    """Verified matches {(i, j): (M, 2)} between K keyframes near each other by pose (K, 4, 4) or by looks."""
    settings = settings or LandmarkSettings()
    descriptors = [one.descriptors for one in features]
    vocabulary = train_vocabulary(descriptors)
    described = np.stack([describe(each, vocabulary) for each in descriptors])
    pairs = candidate_pairs(world_from_cam, described, settings.neighbours)
    return verified_matches(features, intrinsics, pairs, progress)


def build_landmarks(
    features: Sequence[Features],
    matches: Matches,
    world_from_cam: Floats,
    intrinsics: Floats,
    measured: NDArray[np.bool_],
    settings: LandmarkSettings | None = None,
    progress: Progress | None = None,
) -> LandmarkMap:
    """Landmarks of K keyframes from their features and matches.

    world_from_cam (K, 4, 4): poses to start from. Where `measured` (K,) they are believed within the sigmas of the
    settings and fix the world frame; without any measured one the frame is whatever the poses settle in. intrinsics
    (K, 3, 3) of the undistorted images. progress(0..1) may raise to cancel.
    """
    settings = settings or LandmarkSettings()
    builder = _Builder(features, matches, world_from_cam, intrinsics, measured, settings)
    return builder.run(progress or (lambda share: None))


def _part_of(progress: Progress, number: int) -> Progress:
    """What to tell during one of the rounds."""
    return lambda share: progress((number + share) / _ROUNDS)


class _Builder:
    def __init__(
        self,
        features: Sequence[Features],
        matches: Matches,
        world_from_cam: Floats,
        intrinsics: Floats,
        measured: NDArray[np.bool_],
        settings: LandmarkSettings,
    ) -> None:
        self.features, self.given_intrinsics, self.settings = features, intrinsics, settings
        self.start, self.measured = world_from_cam, measured
        self.every = build_tracks([len(one) for one in features], matches)
        self.pixel_size = float(np.median([one.pixel_size for one in features]))
        self.spread = float(np.sqrt(world_from_cam[:, :3, 3].var(0).sum()))

    def run(self, progress: Progress) -> LandmarkMap:
        adjusted, rough = self._adjusted_from(self.start, lambda share: progress(0.5 * share))
        if rough:  # from poses so rough the adjustment may have ended anywhere: try again from the images alone
            seen, kept = len(self.tracks.point), self.__dict__.copy()
            start = placed_by_images(self.every, self.features, self.intrinsics, self.start, self.settings.least_angle)
            if start is not None:
                again, _ = self._adjusted_from(start, lambda share: progress(0.5 + 0.5 * share))
                if len(self.tracks.point) > seen:
                    adjusted = again
                else:
                    self.__dict__.update(kept)
        landmarks, evidence = self._finish(adjusted)
        verdict = judge(evidence)
        return LandmarkMap(
            landmarks if verdict.verified else None,
            verdict.verified,
            verdict.reason,
            self._report(evidence, verdict),
            self.world_from_cam,
            self.focal,
        )

    def _adjusted_from(self, world_from_cam: Floats, progress: Progress) -> tuple[Adjusted | None, bool]:
        """Adjust from poses (K, 4, 4) on, in rounds that narrow; and whether they fitted the images badly at first."""
        self.world_from_cam, self.intrinsics, self.focal = world_from_cam.copy(), self.given_intrinsics.copy(), 1.0
        self.tracks, self._numbers = self._chosen(np.ones(len(self.every.point), dtype=bool))
        self.noise = self.pixel_size
        adjusted, rough = None, False
        for number in range(_ROUNDS):
            noise = self.noise
            chosen = self._well_seen(self.settings.adjusted)
            if chosen.points == 0:
                break
            adjusted = self._adjust(chosen, self._priors(adjusted), _part_of(progress, number))
            rough = rough or self.outlier >= _CALM
            self._keep_agreeing()
            if self.outlier < _CALM and abs(self.noise / noise - 1) < _SETTLED:
                break
        return adjusted, rough

    def _priors(self, adjusted: Adjusted | None) -> PosePriors:
        """The given poses and their deviations: set, else guessed at first and then estimated from what was found."""
        settings, count = self.settings, len(self.start)
        anchored = bool(self.measured.any())
        # Generous at first: a prior that is believed too much keeps what it bends from straightening. Poses that are no
        # measurements only keep the frame from drifting.
        position = 0.15 if anchored else max(0.3 * self.spread, 1e-6)
        rotation = np.radians(5.0) if anchored else np.radians(20.0)
        if adjusted is not None and anchored:
            off = adjusted.prior_deviation[self.measured]
            position, rotation = np.clip(np.median(off, axis=0) / _MEDIAN_NORM, *_SIGMAS)
        position, rotation = settings.position_sigma or float(position), settings.rotation_sigma or float(rotation)
        factor = np.where(self.measured | (not anchored), 1.0, _GUESS)
        self.sigmas = (position, rotation)
        return PosePriors(self.start, position * factor, np.minimum(rotation * factor, 10.0) * np.ones(count))

    def _adjust(self, tracks: Tracks, priors: PosePriors, progress: Progress) -> Adjusted:
        observations, points = self._observations(tracks), self._triangulate(tracks)[0]
        error = np.linalg.norm(self._residuals(tracks, points), axis=1)
        self.outlier = float(np.clip(2 * np.quantile(error, 0.8) / self.noise, _NARROW, _WIDE))
        adjusted = adjust(
            observations,
            self.world_from_cam,
            points,
            priors,
            noise_px=self.noise,
            outlier=self.outlier,
            refine_focal=self.settings.refine_focal,
            frame_is_free=not self.measured.any(),
            progress=progress,
        )
        self.world_from_cam = adjusted.world_from_cam
        self.noise = max(adjusted.noise_px, _LEAST_NOISE * self.pixel_size)
        self.intrinsics[:, [0, 1], [0, 1]] *= adjusted.focal
        self.focal *= adjusted.focal
        return adjusted

    def _keep_agreeing(self) -> None:
        """Choose the observations, among all, that agree with the adjusted poses and the points they have now.

        Keyframes that see clearly more of their points elsewhere than others do were led astray, often several at once:
        they are placed anew, one after the other, by the points of those that were not.
        """
        agrees = self._agreeing(self.tracks, self._numbers)
        seen = np.bincount(self.every.keyframe, minlength=len(self.start))
        share = np.bincount(self.every.keyframe[agrees], minlength=len(self.start)) / np.maximum(seen, 1)
        trusted = share >= _ASTRAY * np.median(share[seen > 0])
        if not trusted[seen > 0].all():
            tracks, numbers = self._chosen(agrees & trusted[self.every.keyframe])
            while not trusted.all():
                known = np.isin(self.every.point, numbers) & ~trusted[self.every.keyframe]
                shared = np.bincount(self.every.keyframe[known], minlength=len(self.start))
                keyframe = int(shared.argmax())
                if shared[keyframe] < _LEAST_SEEN or not self._place(keyframe, tracks, numbers):
                    break
                trusted[keyframe] = True
                agrees = self._agreeing(tracks, numbers)
                tracks, numbers = self._chosen(agrees & trusted[self.every.keyframe])
            agrees = self._agreeing(tracks, numbers)
        self.tracks, self._numbers = self._chosen(agrees)

    def _place(self, keyframe: int, tracks: Tracks, numbers: NDArray[np.int64]) -> bool:
        """Place a keyframe by the points of tracks; False where too few of them agree on a place."""
        seen = np.flatnonzero((self.every.keyframe == keyframe) & np.isin(self.every.point, numbers))
        points = self._triangulate(tracks)[0][np.searchsorted(numbers, self.every.point[seen])]
        pixels = self._gathered("pixels", self.every)[seen].astype(np.float64)
        settings = PnpSettings(inlier_px=3 * self.pixel_size, noise_px=self.noise)
        placed = solve_pnp(points, pixels, None, self.intrinsics[keyframe], settings)
        if placed is None or placed.inliers.sum() < max(_LEAST_SEEN, len(seen) / 2):
            return False
        self.world_from_cam[keyframe] = placed.world_from_cam
        return True

    def _agreeing(self, tracks: Tracks, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of all observations (O,) lie where their points project to: by the tracks, whose points have `numbers`,
        other points by all that is known of them.
        """
        points = self._triangulate(self.every)[0]
        points[numbers] = self._triangulate(tracks)[0]
        error = np.linalg.norm(self._residuals(self.every, points), axis=1)
        agrees: NDArray[np.bool_] = error <= max(4 * self.outlier * self.noise, 3 * self.pixel_size)
        return agrees

    def _chosen(self, which: NDArray[np.bool_]) -> tuple[Tracks, NDArray[np.int64]]:
        """Those of all observations, of points that keep at least two, and the numbers of those points in `every`."""
        counts = np.bincount(self.every.point[which], minlength=self.every.points)
        return self.every.select(which), np.flatnonzero(counts >= 2)

    def _well_seen(self, most: int) -> Tracks:
        """The `most` points seen most often, of those whose rays spread enough."""
        if self.tracks.points == 0:
            return self.tracks
        angle = self._triangulate(self.tracks)[1]
        seen = np.bincount(self.tracks.point)
        good = angle >= self.settings.least_angle
        order = np.lexsort((-angle, -seen, ~good))
        chosen = np.zeros(len(good), dtype=bool)
        chosen[order[:most]] = True
        return self.tracks.select((chosen & good)[self.tracks.point])

    def _finish(self, adjusted: Adjusted | None) -> tuple[Landmarks | None, Evidence]:
        tracks = self._well_seen(self.settings.budget)
        anchored = bool(self.measured.any())
        if adjusted is None or tracks.points == 0:
            nothing: list[list[int]] = []
            return None, Evidence(
                anchored, len(self.start), nothing, 0, 0, False, 0.0, self.pixel_size, 0.0, 0.0, [], self.spread
            )
        points = self._triangulate(tracks)[0]
        observations = self._observations(tracks)
        points, covariance = refine_points(observations, self.world_from_cam, points, self.noise)
        determined = are_determined(points, covariance)
        error = np.linalg.norm(self._residuals(tracks, points), axis=1)
        agrees = (error <= max(4 * self.noise, 1.5 * self.pixel_size)) & determined[tracks.point]
        kept = np.flatnonzero(np.bincount(tracks.point[agrees], minlength=len(points)) >= 2)
        tracks, points, covariance = tracks.select(agrees), points[kept], covariance[kept]
        parts = parts_of(tracks.keyframe, tracks.point, len(self.start))
        if not anchored and len(parts) > 1:  # nothing ties the parts together
            inside = np.isin(tracks.keyframe, parts[0])
            kept = np.flatnonzero(np.bincount(tracks.point[inside], minlength=len(points)) >= 2)
            tracks, points, covariance = tracks.select(inside), points[kept], covariance[kept]
        off = adjusted.prior_deviation[self.measured]
        wrong = (off[:, 0] > 5 * self.sigmas[0]) | (off[:, 1] > 5 * self.sigmas[1])
        evidence = Evidence(
            anchored,
            len(self.start),
            parts,
            len(points),
            len(tracks.point),
            adjusted.converged,
            float(np.median(error[agrees])) if agrees.any() else 0.0,
            self.pixel_size,
            float(np.sqrt(np.mean(off[:, 0] ** 2))) if anchored else 0.0,
            float(np.sqrt(np.mean(off[:, 1] ** 2))) if anchored else 0.0,
            np.flatnonzero(self.measured)[wrong].tolist(),
            self.spread,
        )
        if len(points) == 0:
            return None, evidence
        return self._landmarks(tracks, points, covariance, adjusted.pose_covariance), evidence

    def _landmarks(self, tracks: Tracks, points: Floats, covariance: Floats, pose_covariance: Floats) -> Landmarks:
        descriptors = [one.descriptors for one in self.features]
        vocabulary = train_vocabulary(descriptors)
        order = np.argsort(tracks.keyframe, kind="stable")
        return Landmarks(
            world_from_cam=self.world_from_cam,
            pose_covariance=pose_covariance.astype(np.float32),
            intrinsics=self.intrinsics,
            keyframe_descriptors=np.stack([describe(each, vocabulary) for each in descriptors]),
            positions=points.astype(np.float32),
            covariance_roots=lower_roots(covariance),
            descriptors=self._mean_descriptors(tracks),
            observed_from=tracks.keyframe[order].astype(np.int32),
            observed=tracks.point[order].astype(np.int32),
            pixels=self._pixels(tracks)[order].astype(np.float32),
            vocabulary=vocabulary,
            noise_px=self.noise,
        )

    def _mean_descriptors(self, tracks: Tracks) -> NDArray[np.uint8]:
        """One descriptor (N, D) per point: the observed one that is most like all others of the point."""
        every = self._gathered("descriptors", tracks)
        vectors = unit_vectors(every)
        start = np.searchsorted(tracks.point, np.arange(tracks.points))
        mean = np.add.reduceat(vectors, start, axis=0)
        alike = (vectors * mean[tracks.point]).sum(1)
        best = np.lexsort((-alike, tracks.point))[start]
        chosen: NDArray[np.uint8] = every[best]
        return chosen

    def _pixels(self, tracks: Tracks) -> Floats:
        pixels: Floats = self._gathered("pixels", tracks).astype(np.float64)
        return pixels

    def _gathered(self, what: str, tracks: Tracks) -> NDArray[Any]:
        """`pixels` or `descriptors` (O, ...) of the features of all observations."""
        first = np.concatenate([[0], np.cumsum([len(one) for one in self.features])])
        every: NDArray[Any] = np.concatenate([getattr(one, what) for one in self.features])
        return every[first[tracks.keyframe] + tracks.feature]

    def _observations(self, tracks: Tracks) -> Observations:
        return Observations(tracks.keyframe, tracks.point, self._pixels(tracks), self.intrinsics)

    def _triangulate(self, tracks: Tracks) -> tuple[Floats, Floats]:
        rays = rays_of(self._pixels(tracks), self.intrinsics[tracks.keyframe])
        return triangulate(self.world_from_cam[tracks.keyframe], rays, tracks.point)

    def _residuals(self, tracks: Tracks, points: Floats) -> Floats:
        return project(self._observations(tracks), self.world_from_cam, points)[0]

    def _report(self, evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
        return {
            "verified": verdict.verified,
            "reason": verdict.reason,
            "landmarks": evidence.landmarks,
            "observations": evidence.observations,
            "keyframes": evidence.keyframes,
            "keyframes_in_parts": [[int(k) for k in part] for part in evidence.parts],
            "residual_px": evidence.residual_px,
            "noise_px": self.noise,
            "focal_factor": self.focal,
            "converged": evidence.converged,
            "prior_residual_m": evidence.prior_residual_m,
            "prior_residual_deg": float(np.degrees(evidence.prior_residual_rad)),
            "prior_outliers": evidence.prior_outliers,
        }
