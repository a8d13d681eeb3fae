"""What single localizations mean over time: whether the robot is localized, and where its odometry
is in the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import check_pose, chordal_mean, se3
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.pose_filter import Sighting, Track
from vggt3_ros.pipeline.tracking_settings import TrackingSettings as TrackingSettings

# variance, (10 um)^2 and (10 urad)^2, below which a covariance may fail to be positive
_ROUNDING = 1e-10
_MAX_DISTANCE_M = 1e8  # from the origin of odom: float64 still resolves 15 nm there


class TrackingState(Enum):
    """UNINITIALIZED: no pose was confirmed yet. LOCALIZED: poses are verified and agree with each
    other. UNCERTAIN: localized a moment ago; since then attempts failed or contradict. LOST: for
    too long.
    """

    UNINITIALIZED = "uninitialized"
    LOCALIZED = "localized"
    UNCERTAIN = "uncertain"
    LOST = "lost"


@dataclass(frozen=True, eq=False)
class Tracked:
    """What an attempt has led to. Only if `publish`, there is a pose: map_from_cam (4, 4) with its
    covariance (6, 6) of position in the map and rotation vector in the camera frame.

    map_from_odom (4, 4), frozen unless LOCALIZED, is None before the first pose with odometry was
    confirmed. ignored: the attempt came too late and has changed nothing.
    """

    state: TrackingState
    reason: str
    publish: bool = False
    map_from_cam: Tensor | None = None
    covariance: Tensor | None = None
    map_from_odom: Tensor | None = None
    ignored: bool = False


class Tracker:
    """Follows one camera in one map. Call it from one thread.

    `_truth` is what is believed: poses that agree, LOCALIZED or a moment ago. `_candidate` are
    newer poses that agree with each other, but contradict the truth or have none before them.
    """

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.settings = settings or TrackingSettings()
        self.reset("no pose was confirmed yet")

    def reset(self, reason: str) -> None:
        """Forget everything, as after a change of the map."""
        self.state = TrackingState.UNINITIALIZED
        self.reason = reason
        self.map_from_odom: Tensor | None = None
        self._truth: Track | None = None
        self._candidate: Track | None = None
        self._last_stamp_ns: int | None = None
        self._agreed_ns = 0  # stamp of the last pose that was published

    def update(
        self, stamp_ns: int, localization: Localization, odom_from_cam: Tensor | None
    ) -> Tracked:
        """Judge one attempt: the stamp of its image, its outcome, and odom_from_cam (4, 4) of that
        stamp, None where it is unknown. Odometry that cannot be used is taken as unknown, and the
        reason says so.
        """
        note = ""
        if self._last_stamp_ns is not None and stamp_ns <= self._last_stamp_ns:
            behind = 1e-9 * (self._last_stamp_ns - stamp_ns)
            if behind <= self.settings.clock_jump_s:
                late = f"ignored: the image is {behind:.3f} s older than the last one, or the same"
                return Tracked(self.state, late, map_from_odom=self.map_from_odom, ignored=True)
            self.reset(f"the clock was set back by {behind:.1f} s")
            note = f"; {self.reason}"
        self._last_stamp_ns = stamp_ns
        odom_from_cam, trouble = usable_odometry(odom_from_cam, localization.metric)
        for track in (self._truth, self._candidate):
            if track is not None and odom_from_cam is not None:
                track.carry(stamp_ns, odom_from_cam)
        self.expire(stamp_ns)
        sighting = _sighting(stamp_ns, localization, odom_from_cam)
        if isinstance(sighting, str):
            tracked = self._failed(stamp_ns, sighting + note)
        else:
            tracked = self._seen(sighting, localization.reason + trouble + note)
        self.reason = tracked.reason
        return tracked

    def wait(self, passed_ns: int, reason: str) -> None:
        """Be LOST if too much time has passed, by any clock, since the last pose agreed. reason:
        why none has since.

        Stamps alone do not tell: there may be none, or they stand still.
        """
        self.expire(self._agreed_ns + passed_ns, reason)

    def expire(self, now_ns: int, reason: str = "there was no attempt") -> None:
        """Be LOST if the last agreeing pose is too old at that time, by the clock of the stamps."""
        if self.state in (TrackingState.LOCALIZED, TrackingState.UNCERTAIN) and self._is_old(
            now_ns
        ):
            # nothing contradicts: what comes next may confirm it
            if self.state is TrackingState.LOCALIZED:
                self._candidate = self._truth
            self._truth = None
            self.state = TrackingState.LOST
            self.reason = self._explained(now_ns, reason)

    def predicted_map_from_cam(self, stamp_ns: int, odom_from_cam: Tensor | None) -> Tensor | None:
        """Where the camera should be (4, 4), a hint for the next localization: by odometry,
        otherwise where it was if that is recent; None if nothing is known.

        Candidates give no hint: they shall be confirmed by poses that were not looked for near
        them.
        """
        odom_from_cam, _ = usable_odometry(odom_from_cam, metric=True)
        if odom_from_cam is not None and self.map_from_odom is not None:
            return self.map_from_odom @ odom_from_cam
        return None if self._truth is None or self._is_old(stamp_ns) else self._truth.newest[0]

    def _failed(self, stamp_ns: int, reason: str) -> Tracked:
        """After an attempt without an accepted pose."""
        self._candidate = None
        if self._truth is not None:
            self._truth.streak = 0
        return self._withheld(stamp_ns, reason)

    def _seen(self, sighting: Sighting, reason: str) -> Tracked:
        """After an accepted pose."""
        objection = ""
        if self._truth is not None:
            contradiction = self._truth.objection(sighting)
            if contradiction is None:
                self._truth.include(sighting)
                return self._localized(self._truth, reason)
            self._truth.streak = 0
            objection = f"{contradiction}; "
        if self._candidate is not None and self._candidate.objection(sighting) is None:
            self._candidate.include(sighting)
        else:
            self._candidate = Track(sighting, self.settings)
        if self._candidate.streak >= self.settings.confirmations:
            return self._localized(self._candidate, reason)
        count = (
            f"{self._candidate.streak} of {self.settings.confirmations} poses that must agree:"
            f" {reason}"
        )
        return self._withheld(sighting.stamp_ns, objection + count)

    def _localized(self, track: Track, reason: str) -> Tracked:
        self.state = TrackingState.LOCALIZED
        self._truth = track
        self._candidate = None
        self._agreed_ns = track.last.stamp_ns
        self.map_from_odom = track.map_from_odom
        map_from_cam, covariance = track.newest
        return Tracked(self.state, reason, True, map_from_cam, covariance, self.map_from_odom)

    def _withheld(self, stamp_ns: int, reason: str) -> Tracked:
        if self.state is TrackingState.LOCALIZED:
            self.state = TrackingState.UNCERTAIN
        if self.state is TrackingState.LOST:
            reason = self._explained(stamp_ns, reason)
        return Tracked(self.state, reason, map_from_odom=self.map_from_odom)

    def _is_old(self, stamp_ns: int) -> bool:
        return stamp_ns - self._agreed_ns > 1e9 * self.settings.lost_after_s

    def _explained(self, stamp_ns: int, reason: str) -> str:
        return f"no pose has agreed for {1e-9 * (stamp_ns - self._agreed_ns):.1f} s; {reason}"


def usable_odometry(odom_from_cam: Tensor | None, metric: bool) -> tuple[Tensor | None, str]:
    """The odometry (4, 4) as an exact rigid transform in float64, or None where it is unknown or
    useless (also beside a map without scale, which is not `metric`), and what is to be said about
    it.
    """
    if odom_from_cam is None:
        return None, "; without odometry"
    if not metric:
        return None, "; without odometry, because the map has no scale"
    try:
        pose = _rigid(odom_from_cam, "odometry")
    except InputError as error:
        return None, f"; without odometry ({error})"
    if float(pose[:3, 3].norm()) > _MAX_DISTANCE_M:
        return (
            None,
            (
                f"; without odometry (its position is {float(pose[:3, 3].norm()):.3g} m from its"
                " origin)"
            ),
        )
    return pose, ""


def _sighting(
    stamp_ns: int, localization: Localization, odom_from_cam: Tensor | None
) -> Sighting | str:
    """The accepted pose of an attempt, or why there is none."""
    pose = localization.map_from_cam
    covariance = localization.covariance
    if localization.status is LocalizationStatus.UNVERIFIED:
        return f"the pose is not verified: {localization.reason}"
    if localization.status is not LocalizationStatus.VERIFIED or pose is None:
        return localization.reason
    if covariance is None or tuple(covariance.shape) != (6, 6):
        given = None if covariance is None else tuple(covariance.shape)
        return f"a verified pose needs a covariance (6, 6), got {given}"
    covariance = covariance.double().cpu() + _ROUNDING * torch.eye(6, dtype=torch.float64)
    if not bool(covariance.isfinite().all()) or bool(torch.linalg.cholesky_ex(covariance).info):
        return "the covariance of the pose is not finite and positive"
    try:
        return Sighting(stamp_ns, _rigid(pose, "verified pose"), covariance, odom_from_cam)
    except InputError as error:
        return str(error)


def _rigid(pose: Tensor, name: str) -> Tensor:
    """A pose (4, 4) in float64 whose rotation is exact. Raises InputError if it is none."""
    check_pose(pose, name)
    pose = pose.double().cpu()
    return se3(chordal_mean(pose[None, :3, :3]), pose[:3, 3])
