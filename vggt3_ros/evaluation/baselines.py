"""What localization must beat: answers that need no network, given in the true poses of the map
frames.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.metrics import mean_pose
from vggt3_ros.pipeline.collection import thumbnail


def mean_pose_baseline(map_poses: Tensor, queries: int) -> list[Tensor]:
    """Every query is answered with the mean (4, 4) of the map poses (N, 4, 4)."""
    return [mean_pose(map_poses)] * queries


def nearest_image_baseline(
    map_poses: Tensor, map_thumbnails: Tensor, query_thumbnails: Tensor
) -> list[Tensor]:
    """Every query is answered with the pose of the map image whose thumbnail is most like its own.

    map_poses (N, 4, 4); thumbnails (N, D) and (Q, D) as `thumbnails` makes them.
    """
    nearest = torch.cdist(query_thumbnails, map_thumbnails).argmin(dim=1)
    return [map_poses[i] for i in nearest.tolist()]


def thumbnails(images: Iterable[np.ndarray]) -> Tensor:
    """Grey thumbnails of 32x24 of images (H, W, 3) uint8, flat (N, 768), each of mean 0 and
    standard deviation 1.

    Normalizing leaves out brightness and contrast, which say little about the place.
    """
    flat = []
    for image in images:
        small = torch.from_numpy(thumbnail(image)).flatten()
        flat.append((small - small.mean()) / small.std().clamp(min=1e-5))
    return torch.stack(flat)
