"""How frames are localized."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.landmarks.features import FeatureSettings, whole_image

Propose = Literal["memory", "local", "both"]
NEIGHBOURS = 2  # with more, poses in real sequences are worse, and in rooms no better


@dataclass(frozen=True)
class LocalizerSettings:
    """refine: "refine" finds and refines poses with the landmarks, "verify" only checks the
    network's own; both refuse what the landmarks do not confirm, where the scene has landmarks.
    "none" leaves the network's poses unverified.

    features: of every frame. Where fewer than 45 landmarks agree it is searched in a second size,
    too: the whole image, or half of it where features are those of the whole image.

    depth: "network" decodes the network's depth of every frame; "refined" replaces it, where the
    pose is verified, by what keyframes know there, as far as the scene has depth. "none" spares it
    where landmarks judge the pose.

    propose: what the network's pose is made of: the scene's "memory", or the `neighbours` keyframes
    most like the frame, which pass the network together with it ("local": needs their images in the
    scene). "both" asks these only where landmarks have not confirmed a pose without them.

    note_sightings: verified poses tell which landmarks they should show, and which they do, for a
    log by which a scene ages.
    """

    refine: Literal["refine", "verify", "none"] = "refine"
    features: FeatureSettings = field(default_factory=FeatureSettings)
    locate: LocateSettings = field(default_factory=LocateSettings)
    depth: Literal["none", "network", "refined"] = "none"
    propose: Propose = "memory"
    neighbours: int = NEIGHBOURS
    note_sightings: bool = False

    def __post_init__(self) -> None:
        if self.refine not in ("refine", "verify", "none"):
            raise InputError(f"refine is {self.refine!r}; choose 'refine', 'verify' or 'none'")
        if self.depth not in ("none", "network", "refined"):
            raise InputError(f"depth is {self.depth!r}; choose 'none', 'network' or 'refined'")
        if self.propose not in ("memory", "local", "both"):
            raise InputError(f"propose is {self.propose!r}; choose 'memory', 'local' or 'both'")
        if self.neighbours < 2:
            raise InputError(
                f"neighbours is {self.neighbours}; expected at least 2, of one alone the scale is"
                " unknown"
            )

    @property
    def second_features(self) -> FeatureSettings:
        """Of frames in which the first features found too little."""
        return whole_image() if self.features.scale < 1 else FeatureSettings()
