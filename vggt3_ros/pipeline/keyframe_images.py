"""Keyframes' images with the cameras that took them, as programs that render or reconstruct need
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.part import part
from vggt3_ros.landmarks.tensors import LandmarkTensors
from vggt3_ros.pipeline.published_loader import EvaluationCrop
from vggt3_ros.scene.scene import Scene

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")  # in names of files, on any system


@dataclass(frozen=True, eq=False)
class KeyframeImages:
    """Images of those keyframes whose poses are known, as the network saw them: without lens
    distortion, in its size.

    rows: indices of the M keyframes; images (M, 3, H, W) uint8 RGB; intrinsics (M, 3, 3) float64 in
    their pixels, centres at whole numbers, focal lengths as the map was adjusted; world_from_cam
    (M, 4, 4) float64 in the map; file_names: one for each, all different.
    """

    rows: tuple[int, ...]
    images: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor
    file_names: tuple[str, ...]

    @staticmethod
    def of(scene: Scene) -> KeyframeImages:
        """Those of a scene. Raises SceneError for one without images of its keyframes."""
        if scene.images is None:
            raise SceneError(
                f"scene {scene.scene_id} has no images of its keyframes; map the place again with"
                " --keep-images (the mapper's keep_images)"
            )
        rows = posed_keyframes(scene)
        chosen = torch.tensor(rows, dtype=torch.long)
        return KeyframeImages(
            rows=rows,
            images=scene.images[chosen],
            intrinsics=image_intrinsics(scene)[chosen],
            world_from_cam=scene.map_from_keyframes[chosen],
            file_names=tuple(_file_name(row, scene.keyframes.names[row]) for row in rows),
        )

    def landmarks(self, scene: Scene) -> Landmarks:
        """The scene's landmarks as these images show them: observed in their pixels, inside of
        them.
        """
        keyframes = np.zeros(len(scene.keyframes), dtype=bool)
        keyframes[list(self.rows)] = True
        whole = Landmarks.from_tensors(scene.landmarks)
        mine = part(whole, keyframes, np.ones(len(whole), dtype=bool))
        intrinsics = self.intrinsics.numpy()
        pixels_from_whole = intrinsics @ np.linalg.inv(mine.intrinsics)
        moved = pixels_from_whole[mine.observed_from]
        pixels = np.einsum("oij,oj->oi", moved[:, :2, :2], mine.pixels) + moved[:, :2, 2]
        height, width = self.images.shape[-2:]
        inside = ((pixels >= -0.5) & (pixels < np.array([width, height]) - 0.5)).all(1)
        shown = replace(
            mine,
            intrinsics=intrinsics,
            observed_from=mine.observed_from[inside],
            observed=mine.observed[inside],
            pixels=pixels[inside].astype(np.float32),
        )
        return part(shown, np.ones(len(self.rows), dtype=bool), np.ones(len(shown), dtype=bool))


def posed_keyframes(scene: Scene) -> tuple[int, ...]:
    """Indices of the keyframes whose poses are known: in maps with landmarks those that observe
    some, in others all, as the network has them.
    """
    return scene.keyframes_with_landmarks or tuple(range(len(scene.keyframes)))


def image_intrinsics(scene: Scene) -> Tensor:
    """Intrinsics (S, 3, 3) float64 of the images as the network saw them, with the focal lengths
    that the map was adjusted to.
    """
    own = scene.keyframes.intrinsics
    if not scene.landmarks:
        return own
    calibration = scene.require_calibration()
    given = own.clone()
    given[:, [0, 1], [0, 1]] *= calibration.focal_factor
    whole = LandmarkTensors(Landmarks.from_tensors(scene.landmarks)).intrinsics
    target = (scene.input_size[1], scene.input_size[0])
    crops = [
        EvaluationCrop.plan(size_wh, None, target, rotate=False)
        for size_wh in calibration.image_sizes_wh
    ]
    found = torch.stack([crop.pixels_from_source() for crop in crops]) @ whole
    return torch.where(_are_predicted(own, scene.input_size)[:, None, None], found, given)


def _are_predicted(intrinsics: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Which intrinsics (S, 3, 3) are the network's, which knows no principal point but the middle
    (geometry.camera.decode_camera).
    """
    middle = torch.tensor([size_hw[1] / 2, size_hw[0] / 2], dtype=torch.float64)
    return ((intrinsics[:, :2, 2] - middle).abs() < 1e-9).all(1)


def _file_name(row: int, name: str) -> str:
    """A name for a PNG that sorts as keyframes do, and tells which one it is."""
    stem = _UNSAFE.sub("_", PurePath(name).stem).strip("._")
    return f"{row:05d}_{stem}.png" if stem else f"{row:05d}.png"
