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
from vggt3_ros.landmarks.matching import epipolar_inliers, match
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.views import descriptors

# Of the disagreement, which a further step has to come below. So, the third step was kept in the
# one of nine tours of 64 frames in which it made poses and depth better. Asked of neighbours alone,
# which agree in a map that is bent, it was also kept where these got worse.
BETTER = 0.95
_FEATURES = FeatureSettings(scale=0.01, least_side=128)
_PARTNERS = 32  # fitted frames that a held-out one is compared with, the most similar
_LEAST_PAIRS = 8  # of frames, which say something
_FOCAL = 0.8  # of the image's width; a rough one suffices to tell matches from chance
_TOLERANCE = 1.0  # pixels from an epipolar line


class HeldOut:
    """Pixels of held-out frames (indices) and of fitted ones that show the same points, in images
    (S, 3, h, w), near and far alike.
    """

    def __init__(self, images: Tensor, held_out: Tensor, fitted: Tensor) -> None:
        described = descriptors(images)
        distance = torch.cdist(described[held_out], described[fitted])
        partners = fitted[distance.topk(min(_PARTNERS, len(fitted)), largest=False).indices]
        features = {
            int(index): _features(images[index])
            for index in torch.cat([held_out, partners.flatten()]).unique()
        }
        self._width = images.shape[-1]
        self._pairs: list[tuple[int, int, Tensor, Tensor]] = []
        for one, others in zip(held_out.tolist(), partners.tolist(), strict=True):
            for other in others:
                pixels, seen = _matched(features[one], features[other])
                if len(pixels):
                    self._pairs.append((one, other, pixels, seen))

    @property
    def tells(self) -> bool:
        """Whether enough pairs of frames show the same points."""
        return len(self._pairs) >= _LEAST_PAIRS

    def disagreement(self, prediction: Prediction) -> float:
        """Mean over pairs of frames of the median distance, as a share of the image's width,
        between a pixel and where the depth and poses of a prediction of all frames bring the one
        that shows the same point.
        """
        apart = []
        for one, other, pixels, seen in self._pairs:
            there = _brought(prediction, one, other, pixels) - seen
            back = _brought(prediction, other, one, seen) - pixels
            distance = torch.linalg.vector_norm(torch.cat([there, back]), dim=-1)
            apart.append((distance / self._width).nan_to_num(1.0).clamp(max=1.0).median())
        return float(torch.stack(apart).mean())


def _matched(one: Features, other: Features) -> tuple[Tensor, Tensor]:
    """Pixels (M, 2) float64 of both that show the same points; none where too few do."""
    pairs = match(one.descriptors, other.descriptors)
    pixels = one.pixels[pairs[:, 0]].astype(np.float64)
    seen = other.pixels[pairs[:, 1]].astype(np.float64)
    middle = (np.array(one.size_wh) - 1) / 2
    focal = _FOCAL * one.size_wh[0]
    agreeing = epipolar_inliers(
        (pixels - middle) / focal, (seen - middle) / focal, _TOLERANCE / focal
    )
    return torch.from_numpy(pixels[agreeing]), torch.from_numpy(seen[agreeing])


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
