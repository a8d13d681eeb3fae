"""Local features of an image: where they are without lens distortion, and what they look like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.landmarks.picture import Picture
from vggt3_ros.landmarks.undistort import undistorted_pixels

# one byte per element of a unit vector, as COLMAP stores it; loses nothing measurable
_SIFT_UNIT = 512.0
_DESCRIPTOR = 128  # bytes
# OpenCV before 4.8 enlarges the image such that every position lies this far, in pixels of the
# searched image, to the right and below; measured in all octaves of photographs with 4.5.5, 4.6.0
# and 4.7.0 against 4.8.1.
_ENLARGED_OFF = 0.25
_MAX_SEARCHED = 8_000_000  # pixels: SIFT keeps many images of floats, the first of them doubled
# grey levels that 99 % of an image lie below: where it is dim, and once it was stretched
_DIM = 80
_BRIGHT = 215
_DARKEST = 13  # of these levels that is told from others: what is darker is noise
# image sizes beyond the border; undistorted points further out are numerical nonsense
_FAR_OUT = 2.0


@dataclass(frozen=True)
class FeatureSettings:
    """scale at which the image is searched, but never below least_side pixels of its long side
    unless the image itself is smaller, and never above 8 million pixels; count of features that
    are kept, the strongest. The defaults are for frames on the move; `whole_image` takes three
    times as long.
    """

    scale: float = 0.5
    least_side: int = 448
    count: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1 or self.least_side < 1 or self.count < 1:
            raise InputError(
                f"feature settings are out of range: {self}; expected 0 < scale <= 1, the rest"
                " above 0"
            )

    def searched_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Size at which an image of this size is searched."""
        width, height = size_wh
        scale = min(1.0, max(self.scale, self.least_side / max(height, width)))
        scale = min(scale, math.sqrt(_MAX_SEARCHED / (height * width)))
        return max(1, round(scale * width)), max(1, round(scale * height))


def whole_image() -> FeatureSettings:
    """For keyframes, and for frames in which too little was found."""
    return FeatureSettings(scale=1.0, count=4000)


@dataclass(frozen=True, eq=False)
class Features:
    """n SIFT features (Lowe 2004). pixels (n, 2) float32 x y in the whole image without lens
    distortion, pixel centres at whole numbers; descriptors (n, 128) uint8, see unit_vectors;
    size_wh of the whole image; pixel_size: pixels of the whole image per pixel of the image that
    was searched, which is what positions are precise to; picture: the colours of the image, where
    they are compared, too.
    """

    pixels: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size_wh: tuple[int, int]
    pixel_size: float = 1.0
    picture: Picture | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """Descriptors as unit vectors (n, 128), made when first asked for."""
        return unit_vectors(self.descriptors)


def extract(
    image: NDArray[np.uint8],
    intrinsics: Floats | None = None,
    distortion: Distortion | None = None,
    settings: FeatureSettings | None = None,
) -> Features:
    """Features of an RGB image (H, W, 3); positions are undistorted where a distortion is given
    (with intrinsics).
    """
    import cv2

    settings = settings or FeatureSettings()
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = settings.searched_wh((width, height))
    if size != (width, height):
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    detector, offset = _detector(settings)
    keypoints, found = detector.detectAndCompute(_stretched(grey), None)
    if found is None or len(keypoints) == 0:
        empty = np.zeros((0, _DESCRIPTOR), np.uint8)
        return Features(np.zeros((0, 2), np.float32), empty, (width, height), width / size[0])
    strongest = np.argsort([-point.response for point in keypoints], kind="stable")
    strongest = strongest[: settings.count]
    step = np.array([width / size[0], height / size[1]])
    searched = np.asarray(cv2.KeyPoint.convert(keypoints), np.float64)[strongest] - offset
    pixels = (searched + 0.5) * step - 0.5
    descriptors = _root_sift(np.asarray(found)[strongest])
    if distortion is not None and intrinsics is not None:
        pixels = undistorted_pixels(pixels, intrinsics, distortion)
        border = _FAR_OUT * np.array([width, height])
        # also False for NaN
        near = ((pixels > -border) & (pixels < np.array([width, height]) + border)).all(1)
        pixels = pixels[near]
        descriptors = descriptors[near]
    return Features(pixels.astype(np.float32), descriptors, (width, height), float(step.max()))


def unit_vectors(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptors (n, D) as vectors of unit length, so that products say how alike two are."""
    vectors = descriptors.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return vectors


def _stretched(grey: NDArray[Any]) -> NDArray[Any]:
    """A dim image with its brightness multiplied and its few lights kept apart, any other as it is:
    detectors ask for contrasts that the dark lacks. Measured: of 39 photographs in a twelfth of
    their light 35 are found, before 1.
    """
    import cv2

    counts = np.bincount(grey.ravel(), minlength=256)
    bright = int(np.searchsorted(np.cumsum(counts), 0.99 * grey.size))
    if bright >= _DIM:
        return grey
    curve = np.interp(np.arange(256), [0, max(bright, _DARKEST), 255], [0, _BRIGHT, 255])
    return cv2.LUT(grey, np.rint(curve).astype(np.uint8))


def _detector(settings: FeatureSettings) -> tuple[Any, float]:
    """The detector, and how far off its positions are, in pixels of the image that it searches."""
    import cv2

    detectors: Any = cv2  # whose annotations lack it
    # More, and weaker, corners than Lowe's 0.04: half of a room's walls have little else.
    arguments = {"nfeatures": settings.count, "contrastThreshold": 0.02}
    try:
        return detectors.SIFT_create(**arguments, enable_precise_upscale=True), 0.0
    except (TypeError, cv2.error):  # OpenCV before 4.8
        return detectors.SIFT_create(**arguments), _ENLARGED_OFF


def _root_sift(found: NDArray[Any]) -> NDArray[np.uint8]:
    """SIFT descriptors (n, 128) by the roots of their elements (Arandjelovic and Zisserman
    2012).
    """
    root = np.sqrt(found / np.maximum(found.sum(1, keepdims=True), 1e-6))
    quantised: NDArray[np.uint8] = np.clip(np.rint(root * _SIFT_UNIT), 0, 255).astype(np.uint8)
    return quantised
