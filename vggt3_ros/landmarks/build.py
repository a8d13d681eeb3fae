"""From keyframes with poses to landmarks, and the verdict whether they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.assemble import assembled
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.fit import Fit, Given
from vggt3_ros.landmarks.fitting import fitted
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.pairs import candidate_pairs, verified_matches
from vggt3_ros.landmarks.retrieval import describe, train_vocabulary
from vggt3_ros.landmarks.rigid import rigid_sets
from vggt3_ros.landmarks.tracks import build_tracks
from vggt3_ros.landmarks.verdict import MapEvidence, judge, only_falls_apart
from vggt3_ros.progress import Progress

Matches = Mapping[tuple[int, int], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class LandmarkMap:
    """landmarks, None unless verified; the reason for the verdict, and figures for people as plain
    data for JSON.

    world_from_cam (K, 4, 4) as adjusted, also where that failed; focal: factor found for the focal
    lengths. poses: whose frame the poses are in, in words. prior_residual_m: rms distance of
    measured positions from the adjusted ones. prior_outliers: keyframes whose prior the images
    contradict. groups: of keyframes that hold together, but that nothing ties to the landmarks:
    each might be a map of its own. Of a map that is refused for nothing but that, all of them.
    """

    landmarks: Landmarks | None
    verified: bool
    reason: str
    report: dict[str, Any]
    world_from_cam: Floats
    focal: float
    poses: str = "of the images alone"
    prior_residual_m: float = 0.0
    prior_outliers: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()


def match_keyframes(
    features: Sequence[Features],
    world_from_cam: Floats,
    intrinsics: Floats,
    settings: LandmarkSettings | None = None,
    progress: Progress | None = None,
) -> Matches:
    """Verified matches {(i, j): (M, 2)} between K keyframes near each other by pose (K, 4, 4) or by
    looks.
    """
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
    measured: Mask,
    settings: LandmarkSettings | None = None,
    progress: Progress | None = None,
) -> LandmarkMap:
    """Landmarks of K keyframes from their features and matches.

    world_from_cam (K, 4, 4): poses to start from. Where `measured` (K,) they are believed within
    the sigmas of the settings and fix the world frame; without any measured one the frame is
    whatever the poses settle in. intrinsics (K, 3, 3) of the undistorted images. progress(0..1) may
    raise to cancel.
    """
    every = build_tracks([len(one) for one in features], matches)
    given = Given(
        features, every, world_from_cam, measured, intrinsics, settings or LandmarkSettings()
    )
    fit = fitted(given, progress or (lambda fraction: None))
    landmarks, evidence = assembled(fit)
    verdict = judge(evidence)
    return LandmarkMap(
        landmarks if verdict.verified else None,
        verdict.verified,
        verdict.reason,
        _report(fit, evidence),
        fit.world_from_cam,
        fit.focal,
        _poses(evidence),
        evidence.deviation[0],
        tuple(evidence.prior_outliers),
        _groups(fit, landmarks, evidence),
    )


def _groups(
    fit: Fit, landmarks: Landmarks | None, evidence: MapEvidence
) -> tuple[tuple[int, ...], ...]:
    """Groups that might be maps of their own: of a verified map those without landmarks, by what
    the images have in common, whatever poses they got; of one that only falls apart, that with the
    landmarks as well.
    """
    apart = only_falls_apart(evidence)
    if landmarks is None or not (apart or judge(evidence).verified):
        return ()
    tied = np.isin(np.arange(len(fit.given)), landmarks.observed_from)
    every = fit.given.every
    rest = ~tied[every.keyframe]
    groups = rigid_sets(every.keyframe[rest], every.point[rest], len(tied))
    if apart:
        groups = [np.flatnonzero(tied).tolist(), *groups]
    return tuple(tuple(group) for group in groups)


def _report(fit: Fit, evidence: MapEvidence) -> dict[str, Any]:
    return {
        "landmarks": evidence.landmarks,
        "observations": evidence.observations,
        "keyframes": evidence.keyframes,
        "keyframes_in_parts": evidence.parts,
        "residual_px": evidence.residual_px,
        "noise_px": fit.noise,
        "converged": evidence.converged,
        "prior_sigma_m": fit.sigmas[0] if evidence.anchored else None,
        "prior_sigma_deg": float(np.degrees(fit.sigmas[1])) if evidence.anchored else None,
        "prior_residual_m": evidence.deviation[0],
        "prior_residual_deg": float(np.degrees(evidence.deviation[1])),
        "prior_outliers": evidence.prior_outliers,
    }


def _poses(evidence: MapEvidence) -> str:
    """Whose frame the poses of the map are in."""
    if not evidence.anchored:
        return "of the images alone"
    return "held as given" if evidence.held else "adjusted to the images"
