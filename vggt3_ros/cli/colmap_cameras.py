"""What a COLMAP model knows of the cameras: `vggt3 map --from-colmap DIR IMAGES`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.colmap import ColmapModel, read_colmap
from vggt3_ros.pipeline.frame import Frame


@dataclass(frozen=True)
class ColmapCameras:
    """Calibration and prior pose of each image that a COLMAP model names; the counterpart of KnownCameras.

    metric: whether the user says that the model's unit is the metre. Otherwise its scale, like its axes, is arbitrary,
    and whoever uses the priors must not call the result metric.
    """

    model: ColmapModel
    metric: bool = False

    @staticmethod
    def from_folder(folder: Path, metric: bool = False) -> ColmapCameras:
        """Read a model, text or binary. Raises InputError naming the file."""
        return ColmapCameras(read_colmap(folder), metric)

    @property
    def intrinsics(self) -> Tensor:
        """Calibration (3, 3) of the first image: there is one, so photographs are read as they are stored."""
        return torch.from_numpy(self.model.intrinsics[0])

    def frame(self, image: np.ndarray, position: int, name: str, stamp_ns: int = 0) -> Frame:
        """The frame of an image (H, W, 3) with what the model knows of it.

        `name` may be a path. The image is the one of the model that has the same file name, and where several folders
        of the model have it, the one whose folders agree. Images that the model lacks have no prior pose, but the
        calibration if all images of the model share it. Raises InputError when the name fits several images, or the
        calibration is for images of another size.
        """
        index = self._index(PurePath(name))
        calibrated = 0 if index is None and self._one_camera else index
        size_wh = (image.shape[1], image.shape[0])
        if calibrated is not None and self.model.sizes_wh[calibrated] != size_wh:
            width, height = self.model.sizes_wh[calibrated]
            raise InputError(
                f"{name} has {size_wh[0]} x {size_wh[1]} pixels, in the COLMAP model it has {width} x {height}; "
                "give the images that the model was made of"
            )
        return Frame(
            image=image,
            stamp_ns=stamp_ns,
            intrinsics=None if calibrated is None else torch.from_numpy(self.model.intrinsics[calibrated]),
            distortion=None if calibrated is None else self.model.distortions[calibrated],
            prior_world_from_cam=None if index is None else torch.from_numpy(self.model.world_from_cam[index]),
            name=PurePath(name).name,
        )

    @property
    def _one_camera(self) -> bool:
        same_size = len(set(self.model.sizes_wh)) == len(set(self.model.distortions)) == 1
        return same_size and bool((self.model.intrinsics == self.model.intrinsics[0]).all())

    @cached_property
    def _by_file_name(self) -> dict[str, list[int]]:
        named = defaultdict(list)
        for index, name in enumerate(self.model.names):
            named[PurePath(name).name].append(index)
        return named

    def _index(self, path: PurePath) -> int | None:
        found = self._by_file_name.get(path.name, [])
        if len(found) > 1:
            names = {index: PurePath(self.model.names[index]).parts for index in found}
            found = [index for index, parts in names.items() if path.parts[-len(parts) :] == parts]
            if len(found) != 1:
                raise InputError(
                    f"{path} could be any of {len(names)} images of the COLMAP model that have this file name; "
                    "give the image folders as the model names them"
                )
        return found[0] if found else None
