"""The coloured points of a scene: a network's dense predictions, filtered by confidence and
thinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud, at_most, concatenated, voxel_thin
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.progress import Progress

_SAMPLED_FRAMES = 32  # enough to judge confidence and extent
_SAMPLED_PIXELS = 2_000  # per sampled frame
_MERGED_AT = 2_000_000  # points that are gathered before they are thinned together
_VOXEL = 1 / 256  # side of a voxel by default, as a fraction of the scene's extent
_MAX_EXTENTS = 10.0  # extents from the middle; beyond are sky and numerical noise


@dataclass(frozen=True)
class PointSettings:
    """Which of the predicted points a scene keeps.

    source: pixels' depth and camera, or the point head's map. The least confident fraction
    (confidence_quantile) and whatever lies below min_confidence (1 is the least a network says) is
    dropped; then one point per voxel stays, the most confident. voxel_size in scene units, by
    default 1/256 of the scene's extent; it grows until max_points suffice.
    """

    source: Literal["depth", "pointmap"] = "depth"
    confidence_quantile: float = 0.3
    min_confidence: float = 1.0
    voxel_size: float | None = None
    max_points: int = 500_000

    def __post_init__(self) -> None:
        if self.source not in ("depth", "pointmap"):
            raise InputError(
                f"the source of points is {self.source!r}; expected 'depth' or 'pointmap'"
            )
        if not 0 <= self.confidence_quantile < 1:
            raise InputError(
                f"confidence_quantile is {self.confidence_quantile}; expected 0 up to below 1"
            )
        if not (self.voxel_size is None or self.voxel_size > 0):
            raise InputError(f"voxel_size is {self.voxel_size}; expected more than 0, or None")
        if self.max_points < 1:
            raise InputError(f"max_points is {self.max_points}; expected at least 1")


def coloured_points(
    prediction: Prediction,
    images: Tensor,
    settings: PointSettings | None = None,
    progress: Progress | None = None,
) -> PointCloud:
    """Points in scene units of S frames, coloured by the images (S, 3, H, W) in [0, 1] they were
    predicted from.

    Frames are worked through one by one: memory beyond the prediction does not grow with S.
    Raises InputError without any frame, and when points of the point head are asked of a network
    without one.
    """
    settings = settings or PointSettings()
    if len(images) == 0:
        raise InputError("there are points of frames, and all frames were left out; give one")
    if settings.source == "pointmap" and prediction.pointmap is None:
        raise InputError(
            "the points' source is the point head, but this network has none; choose 'depth'"
        )
    threshold, centre, extent = _survey(prediction, images, settings)
    voxel = settings.voxel_size or max(extent * _VOXEL, 1e-9)
    merged = [_empty()]
    waiting = 0
    for index in range(len(images)):
        cloud = _frame_points(prediction, images, index, settings.source)
        near = (cloud.points - centre).abs().amax(
            dim=1
        ) <= _MAX_EXTENTS * extent  # also False for NaN
        merged.append(voxel_thin(cloud[near & (cloud.confidence >= threshold)], voxel))
        waiting += len(merged[-1])
        if waiting > _MERGED_AT:
            merged = [voxel_thin(concatenated(merged), voxel)]
            waiting = 0
        if progress is not None:
            progress((index + 1) / len(images))
    return at_most(settings.max_points, partial(voxel_thin, concatenated(merged)), voxel)


def _survey(
    prediction: Prediction, images: Tensor, settings: PointSettings
) -> tuple[float, Tensor, float]:
    """Confidence threshold, middle (3,) and extent of the scene, from a sample of its points.

    The extent is the diagonal of the box that holds the middle 90 % along each axis.
    """
    frames = (
        torch.linspace(0, len(images) - 1, min(len(images), _SAMPLED_FRAMES))
        .round()
        .long()
        .tolist()
    )
    clouds = []
    for index in frames:
        cloud = _frame_points(prediction, images, index, settings.source)
        clouds.append(cloud[torch.arange(0, len(cloud), max(1, len(cloud) // _SAMPLED_PIXELS))])
    sample = concatenated(clouds)
    sample = sample[sample.points.isfinite().all(dim=1) & sample.confidence.isfinite()]
    if len(sample) == 0:
        raise InputError(
            "the network predicted no finite point; its weights or precision do not fit"
        )
    quantile = float(sample.confidence.quantile(settings.confidence_quantile))
    threshold = max(quantile, settings.min_confidence)
    confident = sample[sample.confidence >= quantile].points
    low = confident.quantile(0.05, dim=0)
    high = confident.quantile(0.95, dim=0)
    return threshold, (low + high) / 2, float(torch.linalg.vector_norm(high - low))


def _frame_points(prediction: Prediction, images: Tensor, index: int, source: str) -> PointCloud:
    """All pixels of one frame as points."""
    part = slice(index, index + 1)
    pointmap = prediction.pointmap
    confidence = prediction.pointmap_confidence
    if source == "pointmap" and pointmap is not None and confidence is not None:
        points = pointmap[part]
        confidence = confidence[part]
    else:
        depth = prediction.depth[part]
        confidence = prediction.depth_confidence[part]
        points = prediction.cameras[part].points(depth)
    colors = (
        (images[index].permute(1, 2, 0).reshape(-1, 3) * 255).round().clamp(0, 255).to(torch.uint8)
    )
    return PointCloud(points.reshape(-1, 3).float(), colors, confidence.reshape(-1).float())


def _empty() -> PointCloud:
    return PointCloud(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0))
