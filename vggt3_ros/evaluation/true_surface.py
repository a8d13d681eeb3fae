"""The true surface of a place, fused from the true depth of the frames of a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, evenly
from vggt3_ros.evaluation.coverage import View, shows, view_of
from vggt3_ros.evaluation.voxels import VoxelMeans
from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import transform_points

SAMPLE = 150_000  # points of a cloud, and of the true surface, that are asked for their nearest one
VIEWS = 2  # map frames that see what a complete map has
# metres; the smaller where the median depth is less than _NEAR
_VOXEL = 0.02
_NEAR_VOXEL = 0.008
_NEAR = 0.5  # metres
_MEDIAN_FRAMES = 8  # map frames whose depth the median is of
_FINER = 2  # voxels of the true surface to one of the cloud, so that its grain hardly counts
_MAX_VOXELS = 4_000_000
_MAX_FURTHER = 100  # frames beside those mapped
_PIXELS = 300_000  # of a frame; of larger ones every second or third row and column is taken
_SAME_DEPTH = 0.02  # relative difference up to which a map frame sees a point


@dataclass(frozen=True, eq=False)
class TrueSurface:
    """points (M, 3) float64 in metres of the true world, one per cube of side `grain` metres.

    sample (K,): rows of at most SAMPLE points, chosen by chance with a fixed seed; seen (K,):
    whether two map frames or more see them. voxel: side in metres of the cubes that clouds are
    brought to before they are compared. frames: how many frames were fused.
    """

    points: Tensor
    grain: float
    sample: Tensor
    seen: Tensor
    voxel: float
    frames: int


def true_surface(
    sequence: Sequence, map_indices: Items[int], progress: Callable[[], None] | None = None
) -> TrueSurface | None:
    """Fuse the true depth of the map frames and of up to 100 others; None where no map frame has
    any.

    Voxels measure 2 cm, or 0.8 cm where the median depth of map frames is below 0.5 m, and more
    where the surface would take over four million of half that size. Frames are read one by one,
    those of the map twice; progress is called before each, and what it raises cancels.
    """
    progress = progress or (lambda: None)
    voxel = _voxel_size(sequence, map_indices, progress)
    if voxel is None:
        return None
    mapped = set(map_indices)
    further = evenly(
        tuple(index for index in range(len(sequence)) if index not in mapped), _MAX_FURTHER
    )
    grid = VoxelMeans(
        voxel / _FINER, sequence.world_from_cam[list(map_indices), :3, 3].mean(0), _MAX_VOXELS
    )
    frames = 0
    for index in (*map_indices, *further):
        progress()
        view = view_of(sequence, index)
        if view is not None:
            grid.add(_surface(view))
            frames += 1
    points = grid.means()
    sample = sampled(len(points), SAMPLE)
    return TrueSurface(
        points=points,
        grain=grid.size,
        sample=sample,
        seen=_views(sequence, map_indices, points[sample], progress) >= VIEWS,
        voxel=_FINER * grid.size,
        frames=frames,
    )


def sampled(count: int, most: int) -> Tensor:
    """Indices (K,) of at most `most` of `count` things, chosen by chance with a fixed seed."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]


def _voxel_size(
    sequence: Sequence, indices: Items[int], progress: Callable[[], None]
) -> float | None:
    medians: list[Tensor] = []
    for row in torch.randperm(len(indices), generator=torch.Generator().manual_seed(0)).tolist():
        progress()
        view = view_of(sequence, indices[row])
        if view is not None and bool((view.depth > 0).any()):
            medians.append(view.depth[view.depth > 0].median())
        if len(medians) == _MEDIAN_FRAMES:
            break
    if not medians:
        return None
    return _NEAR_VOXEL if float(torch.stack(medians).median()) < _NEAR else _VOXEL


def _surface(view: View) -> Tensor:
    """World points (N, 3) of the pixels of known depth."""
    step = math.ceil(math.sqrt(view.depth.numel() / _PIXELS))
    in_cam = unproject(view.depth, view.intrinsics)[::step, ::step]
    return transform_points(view.world_from_cam, in_cam[in_cam[..., 2] > 0])


def _views(
    sequence: Sequence, map_indices: Items[int], points: Tensor, progress: Callable[[], None]
) -> Tensor:
    """How many (K,) map frames see points (K, 3)."""
    counts = torch.zeros(len(points), dtype=torch.long)
    for index in map_indices:
        progress()
        view = view_of(sequence, index)
        if view is not None:
            counts += shows(view, points, _SAME_DEPTH)
    return counts
