"""The grey images of all keyframes with their cameras, and pairs of them to be matched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.dense.cameras import mapping
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.matching import Matching
from vggt3_ros.dense.resize import averaged, averaged_intrinsics

_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Views:
    """Grey images (S, h, w) in [0, 1] of all keyframes, intrinsics (S, 3, 3) and world_from_cam (S,
    4, 4).
    """

    grey: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor

    @staticmethod
    def of(keyframes: Keyframes) -> Views:
        """The keyframes as they are."""
        weights = torch.tensor(_GREY, device=keyframes.images.device)[:, None, None]
        grey = (keyframes.images.float() * weights).sum(1)
        return Views(grey, keyframes.intrinsics, keyframes.world_from_cam)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.grey.shape[1], self.grey.shape[2]

    def halved(self) -> Views:
        """The same at half the size."""
        half = (self.size_hw[0] // 2, self.size_hw[1] // 2)
        intrinsics = averaged_intrinsics(self.intrinsics, self.size_hw, half)
        return Views(averaged(self.grey, half), intrinsics, self.world_from_cam)

    def matching(self, batch: Tensor, neighbours: Tensor) -> Matching:
        """Keyframes `batch` (B,) and their neighbours (B, V), -1 for none."""
        usable = neighbours >= 0
        others = torch.where(usable, neighbours, batch[:, None])
        into_others = mapping(self.intrinsics, self.world_from_cam, batch, others)
        return Matching(self.grey[batch], self.grey[others], usable, into_others)
