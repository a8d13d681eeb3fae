"""What poses are verified with beside the landmarks: the verdict on them, and the numbers that
localizing needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vggt3_ros.errors import InputError

MAX_IMAGE_SIDE = 1_000_000  # pixels
MIN_FOCAL_FACTOR = 0.01
MAX_FOCAL_FACTOR = 100.0
# of scene units, which are about as long as the place is deep
MIN_SCALE = 1e-9
MAX_SCALE = 1e9
MAX_COLOUR_DIFFERENCE = 100.0


@dataclass(frozen=True)
class MapVerdict:
    """Whether poses can be verified against the landmarks of a map, and a sentence that says why.

    poses: where the poses of the map are from, in words: "held as given", "adjusted to the images",
    ...
    """

    verified: bool
    reason: str
    poses: str = "as the network has them"


@dataclass(frozen=True)
class MapCalibration:
    """The numbers of a map with landmarks that localizing in it and exporting it compute with.

    image_sizes_wh: width and height of each keyframe's whole image, in the order of the scene's
    keyframes. focal_factor: what the focal lengths given with the images were multiplied by when
    the map was adjusted. depth_scale: units of the map per unit of depth that the network predicts
    for an image in this scene. colour_difference: what nine of ten keyframes' images differ from
    the coloured points by at most (landmarks/appearance.py), None where points were not refined.
    Raises InputError when a number is out of range.
    """

    image_sizes_wh: tuple[tuple[int, int], ...]
    focal_factor: float
    depth_scale: float
    colour_difference: float | None = None

    def __post_init__(self) -> None:
        for size_wh in self.image_sizes_wh:
            if not all(1 <= side <= MAX_IMAGE_SIDE for side in size_wh):
                raise InputError(
                    f"image_sizes_wh must be from 1 to {MAX_IMAGE_SIDE} pixels, got {size_wh}"
                )
        check_range("focal_factor", self.focal_factor, MIN_FOCAL_FACTOR, MAX_FOCAL_FACTOR)
        check_range("depth_scale", self.depth_scale, MIN_SCALE, MAX_SCALE)
        if self.colour_difference is not None:
            check_range("colour_difference", self.colour_difference, 0, MAX_COLOUR_DIFFERENCE)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError naming `name` unless the value is a finite number from low to high."""
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} must be from {low:g} to {high:g}, got {value}")
