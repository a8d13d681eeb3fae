"""From keyframes with poses to landmarks, and to what speaks for and against them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.robust import robust_deviation
from vggt3_ros.landmarks.adjusting import MIN_NOISE, readjusted
from vggt3_ros.landmarks.features import unit_vectors
from vggt3_ros.landmarks.fit import Fit
from vggt3_ros.landmarks.landmarks import Landmarks, are_determined, lower_roots
from vggt3_ros.landmarks.repeats import repeated
from vggt3_ros.landmarks.retrieval import describe, train_vocabulary
from vggt3_ros.landmarks.rigid import rigid_sets, shared_counts, tied_to, undetermined
from vggt3_ros.landmarks.tensors import rotation_spread
from vggt3_ros.landmarks.ties import at_odds
from vggt3_ros.landmarks.tracks import Tracks
from vggt3_ros.landmarks.triangulation import refine_points
from vggt3_ros.landmarks.verdict import MapEvidence, parts_of

_REFINEMENTS = 2  # the second without the observations that the first found to be wrong


def assembled(fit: Fit) -> tuple[Landmarks | None, MapEvidence]:
    """Landmarks of the keyframes that are rigidly held together, by priors or by landmarks, and
    what they show.
    """
    found = _points(fit)
    if found is None:
        return None, evidence_of(fit)
    members, parts = _tied(fit, found.tracks)
    odd = _at_odds(fit, members)
    if odd.any():
        members, parts = _tied(fit, found.tracks.select(~odd[found.tracks.keyframe]))
    loose = np.zeros(len(members), dtype=bool)
    if not fit.given.anchored:
        found = _alone(fit, members, found)
        loose = members & _loose(fit, found.tracks)
        if loose.any():
            members, parts = _tied(fit, found.tracks.select(~loose[found.tracks.keyframe]))
            found = _alone(fit, members, found)
    tracks, kept = _kept(found.tracks, members[found.tracks.keyframe])
    if fit.given.anchored:
        parts = parts_of(tracks.keyframe, tracks.point, len(fit.given))
    landmarks = None
    if len(kept):
        landmarks = _landmarks(fit, tracks, found.points[kept], found.covariance[kept], found.noise)
    return landmarks, evidence_of(fit, parts, landmarks, found.residual_px, odd, loose)


class _Points(NamedTuple):
    """Points (N, 3) of tracks with their covariances (N, 3, 3), for a noise in pixels; and their
    median residual.
    """

    tracks: Tracks
    points: Floats
    covariance: Floats
    noise: float
    residual_px: float


def _points(fit: Fit) -> _Points | None:
    """The best seen points of a fit and the observations that agree with them; None without any."""
    tracks = fit.well_seen(fit.given.settings.budget)
    noise = fit.noise
    limit = max(4 * noise, 1.5 * fit.given.pixel_size)
    residual = 0.0
    for _ in range(_REFINEMENTS):
        if tracks.points == 0:
            return None
        start = fit.triangulated(tracks)[0]
        points, covariance = refine_points(
            fit.observations(tracks), fit.world_from_cam, start, noise
        )
        residuals = fit.residuals(tracks, points)
        error = np.linalg.norm(residuals, axis=1)
        agrees = (error <= limit) & are_determined(points, covariance)[tracks.point]
        residual = float(np.median(error[agrees])) if agrees.any() else 0.0
        noise = float(
            np.clip(
                robust_deviation(residuals[agrees]), MIN_NOISE * fit.given.pixel_size, fit.noise
            )
        )
        tracks, kept = _kept(tracks, agrees)
        points = points[kept]
        covariance = covariance[kept]
    return _Points(tracks, points, covariance, noise, residual)


def _tied(fit: Fit, tracks: Tracks) -> tuple[Mask, list[list[int]]]:
    """Keyframes (K,) that carry landmarks: tied to those with priors, else the largest set; and all
    such sets.
    """
    given = fit.given
    if given.anchored:
        return tied_to(given.measured & ~fit.contradicted, tracks.keyframe, tracks.point), []
    sets = rigid_sets(tracks.keyframe, tracks.point, len(given))
    return np.isin(np.arange(len(given)), sets[0] if sets else []), sets


def _alone(fit: Fit, members: Mask, found: _Points) -> _Points:
    """Points of the members (K,) adjusted alone: others would bend them, and let their covariance
    look wide.
    """
    if members.any() and not members.all():
        readjusted(fit, members)
        return _points(fit) or found
    return found


def _at_odds(fit: Fit, members: Mask) -> Mask:
    """Which of the members (K,) are tied to the others by matches that contradict each other."""
    if fit.given.measured.all():  # priors tell how all of them lie
        return np.zeros(len(members), dtype=bool)
    every = fit.given.every
    agrees = fit.agreeing(fit.tracks, fit.numbers)
    counts = []
    for which in (np.ones(len(agrees), dtype=bool), agrees):
        counts.append(shared_counts(every.keyframe[which], every.point[which], len(members)))
    return at_odds(members, fit.given.measured, *counts)


def _loose(fit: Fit, tracks: Tracks) -> Mask:
    """Keyframes (K,) whose position the images leave open."""
    deviation = np.sqrt(np.trace(fit.pose_covariance[:, :3, :3], axis1=1, axis2=2))
    positions = fit.world_from_cam[:, :3, 3]
    return undetermined(positions, deviation, tracks.keyframe, tracks.point)


def evidence_of(
    fit: Fit,
    parts: list[list[int]] | None = None,
    landmarks: Landmarks | None = None,
    residual_px: float = 0.0,
    odd: Mask | None = None,
    loose: Mask | None = None,
) -> MapEvidence:
    """What a fit shows, with the parts that its keyframes fall into, the landmarks and residual it
    leads to, the keyframes (K,) whose ties contradict each other, and those whose position stays
    open.
    """
    given = fit.given
    return MapEvidence(
        anchored=given.anchored,
        keyframes=len(given),
        parts=parts or [],
        landmarks=0 if landmarks is None else len(landmarks),
        observations=0 if landmarks is None else len(landmarks.observed),
        converged=fit.converged,
        held=fit.held,
        residual_px=residual_px,
        pixel_size=given.pixel_size,
        depth=0.0 if landmarks is None else landmarks.usual_distance,
        deviation=_rms(fit.prior_deviation[given.measured]),
        spread=_spread(given.world_from_cam),
        at_odds=0 if odd is None else int(odd.sum()),
        loose=0 if loose is None else int(loose.sum()),
        prior_outliers=np.flatnonzero(fit.contradicted).tolist(),
    )


def _kept(tracks: Tracks, which: Mask) -> tuple[Tracks, Indices]:
    """Those observations of tracks, and which of the points keep at least two of them."""
    counts = np.bincount(tracks.point[which], minlength=tracks.points)
    return tracks.select(which), np.flatnonzero(counts >= 2)


def _rms(deviation: Floats) -> tuple[float, float]:
    """Root mean squares of (n, 2), zeros of nothing."""
    if len(deviation) == 0:
        return 0.0, 0.0
    position, rotation = np.sqrt((deviation**2).mean(0))
    return float(position), float(rotation)


def _spread(world_from_cam: Floats) -> tuple[float, float]:
    """Rms distance of poses from their mean position, and rms angle from their mean rotation in
    rad.
    """
    position = float(np.sqrt(world_from_cam[:, :3, 3].var(0).sum()))
    return position, rotation_spread(world_from_cam[:, :3, :3])


def _landmarks(
    fit: Fit, tracks: Tracks, points: Floats, covariance: Floats, noise: float
) -> Landmarks:
    descriptors = [one.descriptors for one in fit.given.features]
    vocabulary = train_vocabulary(descriptors)
    order = np.argsort(tracks.keyframe, kind="stable")
    looks = _mean_descriptors(fit, tracks)
    seen = np.zeros((len(fit.given), len(points)), dtype=bool)
    seen[tracks.keyframe, tracks.point] = True
    return Landmarks(
        world_from_cam=fit.world_from_cam,
        pose_covariance=(
            fit.pose_covariance + np.diag(np.square(np.repeat(fit.map_sigmas, 3)))
        ).astype(np.float32),
        intrinsics=fit.intrinsics,
        keyframe_descriptors=np.stack([describe(each, vocabulary) for each in descriptors]),
        positions=points.astype(np.float32),
        covariance_roots=lower_roots(covariance),
        descriptors=looks,
        repeated=repeated(fit, points, looks, seen),
        observed_from=tracks.keyframe[order].astype(np.int32),
        observed=tracks.point[order].astype(np.int32),
        pixels=fit.pixels(tracks)[order].astype(np.float32),
        vocabulary=vocabulary,
        noise_px=noise,
    )


def _mean_descriptors(fit: Fit, tracks: Tracks) -> NDArray[np.uint8]:
    """One descriptor (N, D) per point: the observed one that is most like all others of the
    point.
    """
    every = fit.given.gathered("descriptors", tracks)
    vectors = unit_vectors(every)
    start = np.searchsorted(tracks.point, np.arange(tracks.points))
    mean = np.add.reduceat(vectors, start, axis=0)
    alike = (vectors * mean[tracks.point]).sum(1)
    best = np.lexsort((-alike, tracks.point))[start]
    chosen: NDArray[np.uint8] = every[best]
    return chosen
