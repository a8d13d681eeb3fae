"""What localizing a frame comes to: a pose with what speaks for it, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.locate import Located
from vggt3_ros.landmarks.sighting import Sighting


class LocalizationStatus(Enum):
    """VERIFIED: landmarks confirm the pose. UNVERIFIED: the network proposes a pose that nothing
    confirms or denies. LOST: there is no pose that could be relied upon.
    """

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    LOST = "lost"


@dataclass(frozen=True, eq=False)
class Searched:
    """What landmarks were compared with: features of a frame, and its intrinsics (3, 3) in its own
    pixels.
    """

    features: Features
    intrinsics: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Localization:
    """Where a frame was taken, or why that is unknown.

    map_from_cam (4, 4) float64, OpenCV camera axes, None when LOST: in metres if `metric`,
    otherwise in scene units. covariance (6, 6) of its position in the map and its rotation vector
    in the camera frame (rad), of verified poses. confidence 0 to 1 is the network's own opinion of
    its depth, not a probability; NaN where that was not decoded.

    located: what the landmarks say, also of a refused pose: how many agree, how they spread over
    the image, and whose keyframes were searched; None where they were not asked. searched: what was
    compared with them to find the pose, not to verify a given one. sighting: which landmarks a
    verified pose should show, and which it does, where the settings ask for it; None for poses
    found together with images before. network_map_from_cam: the
    network's own proposal, also where landmarks refuse it; proposed_by: what that was made of, the
    scene's "memory" or keyframes like the frame ("local"), empty where there is none; proposal: the
    same in a few words.

    intrinsics (3, 3) in pixels of the prepared image: the frame's own calibration, otherwise the
    network's estimate. depth (h, w) along z of the prepared image, in the unit of the pose: the
    network's, roughly scaled; None unless it was wanted, or nothing but the network speaks for the
    pose. depth_provenance (h, w) uint8 says where it is not, None if nowhere: AGREED is the stored
    depth of keyframes around, rendered into the verified pose, NEAR and FAR the network's shape,
    scaled locally to agree with that; intrinsics are then the map's. What came or went since
    mapping is not noticed. Poses found together with images before keep the network's depth.
    seconds per stage, of which "features" run beside "prepare" and "network"; cpu_seconds of the
    processor, all threads of the process: "network" with the preparation of its input and "local",
    and "total".
    """

    status: LocalizationStatus
    reason: str
    map_from_cam: Tensor | None
    metric: bool
    confidence: float
    intrinsics: Tensor | None
    depth: Tensor | None
    seconds: dict[str, float]
    covariance: Tensor | None = None
    located: Located | None = None
    searched: Searched | None = None
    sighting: Sighting | None = None
    network_map_from_cam: Tensor | None = None
    proposed_by: Literal["memory", "local", ""] = ""
    proposal: str = ""
    depth_provenance: Tensor | None = None
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_verified(self) -> bool:
        """Whether landmarks confirm the pose."""
        return self.status is LocalizationStatus.VERIFIED

    @staticmethod
    def lost(reason: str, metric: bool, seconds: dict[str, float]) -> Localization:
        """The answer where nothing proposes a pose."""
        return Localization(LocalizationStatus.LOST, reason, None, metric, 0.0, None, None, seconds)
