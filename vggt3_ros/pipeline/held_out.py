"""Whether a map got better, told by frames that it was not fitted to: what its poses and depths say
about pairs of pixels that show the same point.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import transform_points
from vggt3_ros.landmarks.features import Features, FeatureSettings, extract
from vggt3_ros.landmarks.matching import match
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.views import descriptors

BETTER = 0.85  # of the disagreement, which a further step has to come below: little says nothing
_FEATURES = FeatureSettings(scale=0.01, least_side=128)
_NEIGHBOURS = 2  # fitted frames that each held-out one is matched with
_LEAST_MATCHES = 50  # of all, which say something


class HeldOut:
    """Pixels of held-out frames (indices) and of the fitted frames most like them that show the
    same points, in images (S, 3, h, w).
    """

    def __init__(self, images: Tensor, held_out: Tensor, fitted: Tensor) -> None:
        described = descriptors(images)
        distance = torch.cdist(described[held_out], described[fitted])
        nearest = fitted[distance.topk(min(_NEIGHBOURS, len(fitted)), largest=False).indices]
        features = {
            int(index): _features(images[index])
            for index in torch.cat([held_out, nearest.flatten()]).unique()
        }
        self._width = images.shape[-1]
        self._pairs = []
        for one, others in zip(held_out.tolist(), nearest.tolist(), strict=True):
            for other in others:
                matched = match(features[one].descriptors, features[other].descriptors)
                if len(matched):
                    pixels = features[one].pixels[matched[:, 0]]
                    seen = features[other].pixels[matched[:, 1]]
                    self._pairs.append((one, other, _tensor(pixels), _tensor(seen)))

    @property
    def tells(self) -> bool:
        """Whether there are enough pixels to judge by."""
        return sum(len(pixels) for _, _, pixels, _ in self._pairs) >= _LEAST_MATCHES

    def disagreement(self, prediction: Prediction) -> float:
        """Median distance, as a share of the image's width, between a pixel and where the depth and
        poses of a prediction of all frames bring the one that shows the same point.
        """
        apart = []
        for one, other, pixels, seen in self._pairs:
            there = _brought(prediction, one, other, pixels) - seen
            back = _brought(prediction, other, one, seen) - pixels
            for off in (there, back):
                apart.append(torch.linalg.vector_norm(off, dim=-1) / self._width)
        return float(torch.cat(apart).nan_to_num(1.0).clamp(max=1.0).median())


def _brought(prediction: Prediction, index: int, target: int, pixels: Tensor) -> Tensor:
    """Pixels (M, 2) of a frame in another one; NaN where they are behind it."""
    height, width = prediction.size_hw
    column, row = pixels.round().long().unbind(-1)
    depth = prediction.depth[index][row.clamp(0, height - 1), column.clamp(0, width - 1)].double()
    cameras = prediction.cameras
    rays = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1)
    rays = rays @ torch.linalg.inv(cameras.intrinsics[index]).T
    world = transform_points(cameras.world_from_cam[index], rays * depth[:, None])
    there, z = project(
        transform_points(cameras.cam_from_world[target], world), cameras.intrinsics[target]
    )
    return torch.where(z[:, None] > 0, there, torch.nan)


def _features(image: Tensor) -> Features:
    pixels = (255 * image).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return extract(np.ascontiguousarray(pixels), settings=_FEATURES)


def _tensor(pixels: object) -> Tensor:
    return torch.from_numpy(np.asarray(pixels, np.float64))
