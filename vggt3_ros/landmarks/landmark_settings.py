"""How landmarks are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.features import FeatureSettings, whole_image


@dataclass(frozen=True)
class LandmarkSettings:
    """How landmarks are made.

    hold_priors: whether measured poses stay as they are given (True) or are adjusted to the images
    (False); by default (None) whichever predicts the given pose of a keyframe better from the
    others. position_sigma (metres, or scene units) and rotation_sigma (rad): how far given poses
    that are adjusted may be off; by default estimated from what the images say. refine_focal: find
    one factor of the focal lengths. neighbours: keyframes that each is compared with. budget:
    landmarks that are kept, those seen most often first.
    """

    features: FeatureSettings = field(default_factory=whole_image)
    hold_priors: bool | None = None
    position_sigma: float | None = None
    rotation_sigma: float | None = None
    refine_focal: bool = False
    neighbours: int = 20
    budget: int = 20_000

    def __post_init__(self) -> None:
        sigmas = (self.position_sigma, self.rotation_sigma)
        if any(sigma is not None and not sigma > 0 for sigma in sigmas):
            raise InputError(
                f"position_sigma and rotation_sigma must be above 0, or None; got {sigmas}"
            )
        if self.hold_priors and any(sigma is not None for sigma in sigmas):
            raise InputError(
                "poses that are held have no sigmas; leave out hold_priors, or both sigmas"
            )
        if self.neighbours < 2 or self.budget < 1:
            raise InputError(f"landmark settings are out of range: {self}; see their documentation")
