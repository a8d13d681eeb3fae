"""The pose of an image in a map of landmarks, or why it is not accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask, cross_matrix
from vggt3_ros.landmarks import retrieval
from vggt3_ros.landmarks.acceptance import (
    INLIER_PX,
    RATIO,
    WIDTH,
    Evidence,
    LocateSettings,
    contradiction,
    implausible,
    objection,
    weigh,
)
from vggt3_ros.landmarks.agreement import agreement
from vggt3_ros.landmarks.appearance import Appearance
from vggt3_ros.landmarks.features import Features, unit_vectors
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.matching import match_vectors
from vggt3_ros.landmarks.planes import off_best_plane
from vggt3_ros.landmarks.pnp import PnpSettings, refine_pnp, reprojection_errors, solve_pnp
from vggt3_ros.landmarks.sighting import DOUBT, Sighting
from vggt3_ros.landmarks.tensors import pose_error
from vggt3_ros.landmarks.visibility import Expected, Visibility, guided_matches
from vggt3_ros.laps import Laps

Source = Literal["last", "descriptor", "network", "local", "given", "joint"]

SOURCES: tuple[Source, ...] = ("last", "descriptor", "network", "local")
_KEYFRAMES = 10  # searched per source
_MARGIN = 0.25  # a rough pose may be off by that fraction of the image
# In pixels of an image 640 wide: the window around projections in which a pose finds further
# matches, and within which they agree with it.
_GUIDED_PX = 8.0
_MIN_ALIKE = 0.85  # cosine of descriptors that match there
_ROUGHLY = 1e-2  # PnpSettings.settled of poses that are refined again
# of an accepted pose: 9 % nearer to the truth than with 1.4, at which more poses are found
_FINAL_INFLUENCE = 1.0
_MIN_NOISE = 0.15  # of a pixel of the searched image: finer than features are


@dataclass(frozen=True, eq=False)
class Located:
    """The outcome for one image. world_from_cam (4, 4) and covariance (6, 6) of (position in the
    world, rotation in the camera frame in rad), None where there is none; they may be given for
    refused poses too: `accepted` decides.

    evidence: what speaks for the pose; features and landmarks (n,): indices of what matched and led
    to the pose; source: whose keyframes were searched, or "joint": those of several images
    (joint.py); reason: a sentence; seconds per stage.
    """

    accepted: bool
    reason: str
    source: Source
    world_from_cam: Floats | None = None
    covariance: Floats | None = None
    evidence: Evidence = Evidence()
    features: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    landmarks: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def inliers(self) -> int:
        """Landmarks that agree with the pose."""
        return self.evidence.inliers

    @property
    def cells(self) -> int:
        """Cells of the image that they lie in."""
        return self.evidence.cells

    @property
    def support(self) -> float:
        """What speaks for the pose, 0 to 1: see acceptance.Evidence."""
        return self.evidence.support


class LandmarkLocalizer:
    """Localizes images, each by itself, against one set of landmarks.

    surface (N, 3): points on the map's surfaces, which hide landmarks, and appearance: how these
    look; None where they are not known well.
    """

    def __init__(
        self,
        landmarks: Landmarks,
        settings: LocateSettings | None = None,
        surface: Floats | None = None,
        appearance: Appearance | None = None,
    ) -> None:
        self.landmarks = landmarks
        self.settings = settings or LocateSettings()
        self.visibility = Visibility(landmarks, surface)
        self._appearance = appearance
        self._looks = retrieval.directions(landmarks.keyframe_descriptors)
        self._vectors = unit_vectors(landmarks.descriptors)
        self.usual_distance = self.visibility.usual_distance

    @property
    def compares_colours(self) -> bool:
        """Whether it asks for the pictures of images, beside their features."""
        return self._appearance is not None

    def locate(
        self,
        features: Features,
        intrinsics: Floats,
        proposals: Mapping[Source, Floats] | None = None,
        sources: Sequence[Source] = SOURCES,
    ) -> Located:
        """Pose of an image with these features and intrinsics (3, 3) in its pixels, without lens
        distortion.

        Keyframes are searched that the pose proposals["last"] sees most of, then those that look
        most alike, then those of proposals["network"] and proposals["local"], as far as `sources`
        names them: the first pose that is accepted ends the search, otherwise the attempt with most
        inliers tells why there is none. proposals: world_from_cam (4, 4), all optional.
        """
        laps = Laps()
        best = Located(False, "the map has no landmarks", "descriptor")
        searched: set[tuple[int, ...]] = set()
        for source in sources if len(self.landmarks) else ():
            keyframes = self._keyframes(source, features, intrinsics, proposals or {})
            laps.lap("retrieval")
            if keyframes is None or tuple(sorted(keyframes)) in searched:
                continue
            searched.add(tuple(sorted(keyframes)))
            attempt = self._attempt(source, keyframes, features, intrinsics, laps)
            if attempt.accepted or attempt.inliers > best.inliers or len(searched) == 1:
                best = attempt
            if best.accepted:
                break
        return replace(best, seconds=laps.seconds)

    def verify(self, features: Features, intrinsics: Floats, world_from_cam: Floats) -> Located:
        """Whether the image confirms a given pose, which stays as it is, by the same evidence as
        for `locate`. The covariance contains how far the pose is from the one that fits best.
        """
        laps = Laps()
        keyframes = self._keyframes("given", features, intrinsics, {"given": world_from_cam})
        if keyframes is None:
            return Located(
                False, "no keyframe saw what the pose should see", "given", seconds=laps.seconds
            )
        pairs, _ = self._matches(keyframes, features)
        laps.lap("matching")
        evidence, chosen = self.weighed(features, intrinsics, world_from_cam, pairs, pairs)
        laps.lap("guided")
        refusal = objection(evidence, self.settings)
        settings = self.pnp_settings(features)
        best = refine_pnp(world_from_cam, *self.observed(features, chosen), intrinsics, settings)
        laps.lap("pnp")
        covariance = None
        if best is None:
            refusal = refusal or f"the {len(chosen)} landmarks that agree do not determine a pose"
        else:
            missed = pose_error(world_from_cam, best.world_from_cam)
            covariance = (
                best.covariance
                + np.outer(missed, missed)
                + self.floor(world_from_cam, chosen[:, 1])
            )
        located = _located("given", refusal, evidence, chosen, world_from_cam, covariance)
        return replace(located, seconds=laps.seconds)

    def matches_at(self, features: Features, intrinsics: Floats, world_from_cam: Floats) -> Indices:
        """Pairs (M, 2) of feature and landmark that look alike, of the keyframes that see most of
        what a pose does.
        """
        keyframes = self._keyframes("given", features, intrinsics, {"given": world_from_cam})
        return (
            np.zeros((0, 2), np.int64)
            if keyframes is None
            else self._matches(keyframes, features)[0]
        )

    def _keyframes(
        self,
        source: Source,
        features: Features,
        intrinsics: Floats,
        proposals: Mapping[Source, Floats],
    ) -> Indices | None:
        """Keyframes to search, None without a proposal of that source or where it sees nothing of
        the map.
        """
        landmarks = self.landmarks
        if source == "descriptor":
            query = retrieval.describe(features.descriptors, landmarks.vocabulary)
            return retrieval.most_similar(query, self._looks, _KEYFRAMES)
        pose = proposals.get(source)
        if pose is None or not np.isfinite(pose).all():
            return None
        seen = self.visibility.observations(pose, intrinsics, features.size_wh, _MARGIN)
        votes = np.bincount(landmarks.observed_from[seen], minlength=len(landmarks.world_from_cam))
        chosen = np.argsort(-votes, kind="stable")[:_KEYFRAMES]
        return chosen[votes[chosen] > 0] if votes.any() else None

    def _attempt(
        self,
        source: Source,
        keyframes: Indices,
        features: Features,
        intrinsics: Floats,
        laps: Laps,
    ) -> Located:
        """Pose from the landmarks of some keyframes: matching and PnP, then from all that should be
        seen there.
        """
        landmarks = self.landmarks
        pairs, among = self._matches(keyframes, features)
        laps.lap("matching")
        settings = self.pnp_settings(features)
        rough = replace(settings, settled=_ROUGHLY)
        solution = solve_pnp(*self.observed(features, pairs), intrinsics, rough)
        laps.lap("pnp")
        if solution is None:
            reason = f"no pose explains the {len(pairs)} matches with {among} landmarks"
            return Located(False, f"{reason} of {len(keyframes)} keyframes", source)
        chosen = pairs[solution.inliers]
        expected = self.visibility.expected(solution.world_from_cam, intrinsics, features.size_wh)
        more = self._completed(features, expected, chosen)
        laps.lap("guided")
        refined = refine_pnp(
            solution.world_from_cam, *self.observed(features, more), intrinsics, rough
        )
        laps.lap("pnp")
        if refined is not None and refined.inliers.sum() >= len(chosen):
            solution = refined
            chosen = more[refined.inliers]
        pose = solution.world_from_cam
        evidence, _ = self.weighed(features, intrinsics, pose, pairs, chosen)
        laps.lap("guided")
        refusal = objection(evidence, self.settings)
        covariance = solution.covariance
        floor = self.floor(pose, chosen[:, 1])
        if refusal is None:
            seen = landmarks.positions[chosen[:, 1]]
            refusal = implausible(pose, covariance, seen, landmarks, self.usual_distance)
        if refusal is None:
            final = replace(settings, influence=_FINAL_INFLUENCE)
            polished = refine_pnp(pose, *self.observed(features, chosen), intrinsics, final)
            laps.lap("pnp")
            if polished is not None:
                pose = polished.world_from_cam
                covariance = polished.covariance
        return _located(source, refusal, evidence, chosen, pose, covariance + floor)

    def _matches(self, keyframes: Indices, features: Features) -> tuple[Indices, int]:
        """Pairs (M, 2) of feature and landmark that look alike, and among how many landmarks of the
        keyframes.
        """
        landmarks = self.landmarks
        candidates = np.unique(np.concatenate([landmarks.seen_from(int(k)) for k in keyframes]))
        pairs = match_vectors(features.vectors, self._vectors[candidates], RATIO).astype(np.int64)
        pairs[:, 1] = candidates[pairs[:, 1]]
        return pairs, len(candidates)

    def weighed(
        self,
        features: Features,
        intrinsics: Floats,
        world_from_cam: Floats,
        pairs: Indices,
        chosen: Indices,
    ) -> tuple[Evidence, Indices]:
        """Evidence for a pose, from matched pairs (M, 2) of which the chosen ones (N, 2) may agree
        with it; and all pairs (n, 2) that do.
        """
        expected, found, agreeing = self._compared(features, intrinsics, world_from_cam, chosen)
        likelihood = self.visibility.likelihood(expected, world_from_cam, found)
        points = self.observed(features, agreeing)[0]
        inlying = features.pixels[agreeing[:, 0]]
        agreed = agreement(
            features.pixels, inlying, expected.pixels, likelihood, found, features.size_wh
        )
        evidence = weigh(
            inlying,
            features.pixels,
            matches=len(np.unique(np.concatenate([pairs, agreeing]), axis=0)),
            foreseen=int(np.isin(agreeing[:, 1], expected.landmarks).sum()),
            size_wh=features.size_wh,
            agreed=agreed,
            off_plane=off_best_plane(points, world_from_cam[:3, 3]),
            repeated=self.landmarks.repeated[agreeing[:, 1]],
        )
        if contradiction(evidence, self.settings) is None:
            unlike = self._unlike(features, intrinsics, world_from_cam, inlying, evidence.has_depth)
            evidence = replace(evidence, unlike=unlike)
        return evidence, agreeing

    def _unlike(
        self,
        features: Features,
        intrinsics: Floats,
        world_from_cam: Floats,
        inlying: NDArray[np.float32],
        have_depth: bool,
    ) -> float:
        """How unlike the map's surfaces an image is: see Evidence."""
        if self._appearance is None or features.picture is None:
            return 0.0
        return self._appearance.unlike(
            world_from_cam, intrinsics, features.picture, inlying, have_depth
        )

    def sighting(self, features: Features, intrinsics: Floats, located: Located) -> Sighting:
        """Which landmarks should be seen from where an image was found, and which of them are.

        Raises InputError where there is no pose.
        """
        pose = located.world_from_cam
        if pose is None:
            raise InputError("an image that was found nowhere tells nothing of landmarks")
        chosen = np.stack([located.features, located.landmarks], axis=1)
        expected, found, _ = self._compared(features, intrinsics, pose, chosen)
        likelihood = self.visibility.likelihood(expected, pose, found, DOUBT)
        return Sighting.of(pose, expected.landmarks, likelihood, found)

    def _compared(
        self, features: Features, intrinsics: Floats, world_from_cam: Floats, chosen: Indices
    ) -> tuple[Expected, Mask, Indices]:
        """Landmarks (n,) expected at a pose, and which of them (n,) a feature shows; and all pairs
        (m, 2) that agree with the pose, the chosen ones among them.
        """
        expected = self.visibility.expected(world_from_cam, intrinsics, features.size_wh)
        every = self._completed(features, expected, chosen)
        points, pixels, _ = self.observed(features, every)
        off = reprojection_errors(world_from_cam, points, pixels, intrinsics)
        agreeing = every[off < _GUIDED_PX * _unit(features)]
        found: Mask = np.isin(expected.landmarks, agreeing[:, 1])
        return expected, found, agreeing

    def _completed(self, features: Features, expected: Expected, pairs: Indices) -> Indices:
        """Pairs (N, 2) of all landmarks that are expected, with the feature near each that is most
        like it; and those of `pairs` (M, 2) whose feature and landmark have no other.
        """
        near = guided_matches(
            features,
            expected.landmarks,
            looks=self._vectors[expected.landmarks],
            projected=expected.pixels,
            radius_px=_GUIDED_PX * _unit(features),
            min_alike=_MIN_ALIKE,
        )
        alone = ~np.isin(pairs[:, 0], near[:, 0]) & ~np.isin(pairs[:, 1], near[:, 1])
        return np.concatenate([near, pairs[alone]])

    def floor(self, world_from_cam: Floats, landmarks: Indices) -> Floats:
        """Covariance (6, 6) of the map itself where these landmarks are: the mean of the keyframes'
        that saw them.

        An error of a keyframe is taken as one of the map around it, which the pose follows rigidly.
        """
        chosen = np.isin(self.landmarks.observed, landmarks)
        keyframes, counts = np.unique(self.landmarks.observed_from[chosen], return_counts=True)
        floor = np.zeros((6, 6))
        for keyframe, count in zip(keyframes, counts, strict=True):
            pose = self.landmarks.world_from_cam[keyframe]
            lever = world_from_cam[:3, 3] - pose[:3, 3]
            carried = np.eye(6)
            # rotation x lever
            carried[:3, 3:] = cross_matrix(-lever) @ pose[:3, :3]
            carried[3:, 3:] = world_from_cam[:3, :3].T @ pose[:3, :3]
            floor += (
                count
                / counts.sum()
                * carried
                @ self.landmarks.pose_covariance[keyframe]
                @ carried.T
            )
        return floor

    def observed(self, features: Features, pairs: Indices) -> tuple[Floats, Floats, Floats]:
        """Positions, pixels and covariance roots of pairs of features and landmarks."""
        feature, landmark = pairs.T
        return (
            self.landmarks.positions[landmark].astype(np.float64),
            features.pixels[feature].astype(np.float64),
            self.landmarks.covariance_roots[landmark].astype(np.float64),
        )

    def pnp_settings(self, features: Features) -> PnpSettings:
        """How poses are searched with these features, in pixels of their image."""
        noise = max(self.landmarks.noise_px, _MIN_NOISE * features.pixel_size)
        return PnpSettings(INLIER_PX * _unit(features), noise)


def _located(
    source: Source,
    refusal: str | None,
    evidence: Evidence,
    pairs: Indices,
    world_from_cam: Floats,
    covariance: Floats | None,
) -> Located:
    return Located(
        accepted=refusal is None,
        reason=refusal
        or f"{evidence.inliers} landmarks in {evidence.cells} cells of the image agree",
        source=source,
        world_from_cam=world_from_cam,
        covariance=covariance,
        evidence=evidence,
        features=pairs[:, 0],
        landmarks=pairs[:, 1],
    )


def _unit(features: Features) -> float:
    """Pixels of this image per pixel of one that is 640 wide."""
    return max(features.size_wh) / WIDTH
