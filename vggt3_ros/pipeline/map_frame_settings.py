"""What ties a map to the world, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.pipeline.prior_alignment import MIN_EXTENT_M, priors_problem

# What users call the values of LandmarkSettings.hold_priors.
_PRIOR_POSES = {"auto": None, "hold": True, "adjust": False}


def landmark_settings(prior_poses: str) -> LandmarkSettings:
    """Landmarks for which given poses are held ("hold"), adjusted ("adjust"), or what predicts them
    better ("auto").
    """
    return LandmarkSettings(hold_priors=_PRIOR_POSES[prior_poses])


@dataclass(frozen=True)
class AnchorSettings:
    """What ties a map to the world.

    landmarks: how they are made, None for none. sfm: poses of frames without priors come from the
    images alone (incremental mapping by pycolmap) and not from the network. camera_height_m: of the
    camera above the floor, if known. priors_are_metric: prior poses are in metres with Z up;
    otherwise they give the map its shape alone. drift: prior poses are odometry of one drive, in
    the order of the frames, that goes astray by so much; loops that the images show correct them.
    """

    landmarks: LandmarkSettings | None = field(default_factory=LandmarkSettings)
    sfm: bool = False
    camera_height_m: float | None = None
    priors_are_metric: bool = True
    drift: Drift | None = None

    def __post_init__(self) -> None:
        if self.camera_height_m is not None and not self.camera_height_m > 0:
            raise InputError(
                f"camera_height_m is {self.camera_height_m}; give metres above 0, or None"
            )
        if self.landmarks is None and (self.sfm or not self.priors_are_metric):
            raise InputError(
                "poses without a scale, of sfm or given ones, need landmarks; do not leave them out"
            )
        if self.drift is not None:
            self._check_drift()

    def _check_drift(self) -> None:
        if self.landmarks is None:
            raise InputError("loops of drifting poses need landmarks; do not leave them out")
        if self.landmarks.hold_priors:
            raise InputError("poses that drift cannot be held as given; let them be adjusted")
        if not self.priors_are_metric:
            raise InputError("drift is told in metres, and the given poses have none; leave it out")

    def priors_problem(self, priors: Mapping[int, Tensor]) -> str | None:
        """Why prior poses (4, 4), by the indices of their images, do not fix a frame, None when
        they do.
        """
        return priors_problem(priors, MIN_EXTENT_M if self.priors_are_metric else 0.0)
