"""What a COLMAP model is made of: cameras, images and points."""

from __future__ import annotations

from dataclasses import dataclass

from vggt3_ros.geometry.arrays import Indices

# In the order of their numbers in binary files, with the count of their parameters. There are more,
# of later versions.
MODELS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12, "FOV": 5, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}  # fmt: skip


@dataclass(frozen=True)
class ColmapCamera:
    """A calibration: name of the model, size (W, H), parameters in the model's order."""

    model: str
    size_wh: tuple[int, int]
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        expected = MODELS.get(self.model, len(self.parameters))
        if len(self.parameters) != expected or min(self.size_wh) < 1:
            raise ValueError(f"{self.model} takes a size and {expected} parameters, got {self}")


@dataclass(frozen=True)
class ColmapImage:
    """An image: its name, the number of its camera, cam_from_world as quaternion w x y z and
    translation.
    """

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ColmapPoint:
    """A point: number, position, colour, mean reprojection error in pixels, track (M, 2) of image
    number and index of the pixel within that image.
    """

    number: int
    position: tuple[float, ...]
    color: tuple[int, int, int]
    error: float
    track: Indices
