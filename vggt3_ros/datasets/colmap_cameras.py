"""What a COLMAP model knows of the cameras: `vggt3 map --from-colmap DIR IMAGES`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.calibration import Calibration
from vggt3_ros.datasets.matching import Matching, by_name
from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.colmap import ColmapModel, read_colmap
from vggt3_ros.pipeline.frame import Frame

_RULE = (
    "the model has none of these images unless they are called as in it, with the folders that it"
    " names; give the images it was made of"
)


@dataclass(frozen=True)
class ColmapCameras:
    """Calibration and prior pose of each image that a COLMAP model names; the counterpart of
    KnownCameras.

    metric: whether the user says that the model's unit is the metre. Otherwise its scale, like its
    axes, is arbitrary, and whoever uses the priors must not call the result metric. images: names
    of the images seen so far.
    """

    model: ColmapModel
    metric: bool = False
    folder: Path = Path()
    images: list[str] = field(default_factory=list)

    @staticmethod
    def from_folder(folder: Path, metric: bool = False) -> ColmapCameras:
        """Read a model, text or binary. Raises InputError naming the file."""
        return ColmapCameras(read_colmap(folder), metric, folder)

    @property
    def intrinsics(self) -> Tensor:
        """Calibration (3, 3) of the first image: there is one, so photographs are read as they are
        stored.
        """
        return torch.from_numpy(self.model.intrinsics[0])

    def frame(self, image: np.ndarray, position: int, name: str, stamp_ns: int = 0) -> Frame:
        """The frame of an image (H, W, 3) with what the model knows of it.

        `name` may be a path. The image is the one of the model that its path ends with, folders and
        all. Images that the model lacks have no prior pose, but the calibration if all images of
        the model share it. Raises InputError when the name fits several images, another image has
        the same pose, or the calibration is for images of another size.
        """
        self.images.append(name)
        index = self._matching.take(name, position)
        calibrated = 0 if index is None and self._one_camera else index
        size_wh = (image.shape[1], image.shape[0])
        if calibrated is not None and self.model.sizes_wh[calibrated] != size_wh:
            width, height = self.model.sizes_wh[calibrated]
            raise InputError(
                f"{name} has {size_wh[0]} x {size_wh[1]} pixels, in the COLMAP model it has {width}"
                f" x {height}; give the images that the model was made of"
            )
        return Frame(
            image=image,
            stamp_ns=stamp_ns,
            intrinsics=(
                None if calibrated is None else torch.from_numpy(self.model.intrinsics[calibrated])
            ),
            distortion=None if calibrated is None else self.model.distortions[calibrated],
            prior_world_from_cam=(
                None if index is None else torch.from_numpy(self.model.world_from_cam[index])
            ),
            name=PurePath(name).name,
        )

    @property
    def _one_camera(self) -> bool:
        same_size = len(set(self.model.sizes_wh)) == len(set(self.model.distortions)) == 1
        return same_size and bool((self.model.intrinsics == self.model.intrinsics[0]).all())

    @cached_property
    def _matching(self) -> Matching:
        find = by_name(self.model.names, "images of the COLMAP model")
        return Matching(self.model.names, find, "pose", f"--from-colmap {self.folder}", _RULE)

    @property
    def calibration_text(self) -> str:
        """What was understood of the calibration."""
        if not self._one_camera:
            return "of each image its own, by the COLMAP model"
        return Calibration(self.intrinsics, self.model.distortions[0], self.model.sizes_wh[0]).text

    @property
    def left_over(self) -> dict[str, int]:
        """How many poses of the model belong to none of the images so far."""
        return {"poses": self._matching.left_over}

    def check(self, images: int) -> None:
        """After reading: raise InputError when an image was ambiguous, or the model has none of the
        `images` used.
        """
        if images and not self.images:
            raise InputError(
                f"--from-colmap {self.folder}: rooms bring their own, and there are no other images"
            )
        self._matching.check(images)
