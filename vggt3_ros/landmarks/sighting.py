"""What an image that was found in a map says of its landmarks: which it should show, and which it
does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask

DOUBT = 0.3  # Visibility.likelihood(doubt): keyframes far from a camera tell less of what it sees
# Images taken closer together are one view: fraction of the map's usual distance to landmarks, and
# radians.
_SAME_PLACE = 0.05
_SAME_ANGLE = np.radians(8.0)


@dataclass(frozen=True, eq=False)
class Sighting:
    """One verified pose: world_from_cam (4, 4) in the map; the landmarks (n,) int32, in order, that
    should be seen there; how likely each is, by the keyframes that saw it from about there, (n,)
    float32 above 0 to 1; and which of them were found (n,) bool.

    Raises InputError when the parts contradict each other.
    """

    world_from_cam: Floats
    landmarks: NDArray[np.int32]
    likelihood: NDArray[np.float32]
    found: Mask

    def __post_init__(self) -> None:
        shapes = [each.shape for each in (self.landmarks, self.likelihood, self.found)]
        if self.world_from_cam.shape != (4, 4) or len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise InputError(
                f"a sighting needs a pose (4, 4) and three lists of one length, got"
                f" {self.world_from_cam.shape} and {shapes}"
            )
        if not np.isfinite(self.world_from_cam).all():
            raise InputError("a sighting has a pose that is not finite")
        if (np.diff(self.landmarks) <= 0).any() or (self.landmarks < 0).any():
            raise InputError("a sighting names landmarks twice, or not in order")
        if not ((self.likelihood > 0) & (self.likelihood <= 1)).all():
            raise InputError("a sighting has likelihoods that are not above 0 to 1")

    @staticmethod
    def of(world_from_cam: Floats, landmarks: Indices, likelihood: Floats, found: Mask) -> Sighting:
        """Of landmarks, in order, without those that cannot be seen: likelihood 0."""
        visible = likelihood > 0
        return Sighting(
            world_from_cam,
            landmarks[visible].astype(np.int32),
            likelihood[visible].astype(np.float32),
            found[visible],
        )

    def is_of_same_view(self, other: Sighting, usual_distance: float) -> bool:
        """Whether both images were taken from one place in one direction, so that what stands in
        the way of one does so for the other.
        """
        apart = np.linalg.norm(self.world_from_cam[:3, 3] - other.world_from_cam[:3, 3])
        turned = self.world_from_cam[:3, :3].T @ other.world_from_cam[:3, :3]
        angle = np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1))
        return bool(apart < _SAME_PLACE * usual_distance and angle < _SAME_ANGLE)

    def joined(self, later: Sighting) -> Sighting:
        """Both as one view, at the pose of this one: found is what one of them found."""
        both = np.concatenate([self.landmarks, later.landmarks])
        landmarks, first, of = np.unique(both, return_index=True, return_inverse=True)
        found = np.bincount(of.reshape(-1), np.concatenate([self.found, later.found])) > 0
        likelihood = np.concatenate([self.likelihood, later.likelihood])[first]
        return Sighting(self.world_from_cam, landmarks, likelihood, found)
