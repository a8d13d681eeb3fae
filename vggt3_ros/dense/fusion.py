"""One cloud of the depths of all keyframes."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.shape import camera_points
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud, exact_enough, numbered_cells
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import transform_points

TAKEN = (Provenance.AGREED, Provenance.PLANE, Provenance.NEAR)
_MERGED_AT = 1_000_000  # points that are gathered before they are fused together


def fused_cloud(
    depth: DenseDepth, keyframes: Keyframes, voxel_m: float = 0.02, take: Collection[Provenance] = TAKEN
) -> PointCloud:
    """One point per cube of side voxel_m (metres) in the world: the mean of its pixels, weighted by 1 / sigma^2.

    Of pixels whose depth is known as `take` says. confidence is 0.01 / expected error in metres: 1 for one
    centimetre, 0.2 for five. Points are worked through keyframe by keyframe.
    """
    if not voxel_m > 0:
        raise InputError(f"voxel_m must be above 0, got {voxel_m}")
    if len(depth) != len(keyframes) or depth.depth.shape[1:] != keyframes.size_hw:
        given = f"{tuple(depth.depth.shape)} for {len(keyframes)} keyframes of {keyframes.size_hw}"
        raise InputError(f"depth and keyframes do not belong together: depth is {given}")
    wanted = torch.tensor([int(each) for each in take], device=depth.depth.device, dtype=depth.provenance.dtype)
    sums: list[Tensor] = []
    cells: list[Tensor] = []
    waiting = 0
    for index in range(len(keyframes)):
        taken = torch.isin(depth.provenance[index], wanted) & (depth.depth[index] > 0)
        points = camera_points(depth.depth[index][None], keyframes.intrinsics[index][None])[0][taken]
        points = transform_points(keyframes.world_from_cam[index].double(), points.double())
        colours = keyframes.images[index].permute(1, 2, 0)[taken]
        sigma = depth.sigma[index][taken]
        cells.append(torch.floor(points / voxel_m).long())
        sums.append(_weighted(points, colours, sigma))
        waiting += len(points)
        if waiting > _MERGED_AT:
            cell, total = _merged(cells, sums)
            cells, sums, waiting = [cell], [total], 0
    return _cloud(_merged(cells, sums)[1])


def _weighted(points: Tensor, colours: Tensor, sigma: Tensor) -> Tensor:
    """Sums (N, 8): weight, weighted position and colour, and the number of pixels."""
    weight = 1 / sigma.double().clamp(min=1e-4).square()[:, None]
    return torch.cat([weight, weight * points, weight * colours, torch.ones_like(weight)], dim=1)


def _merged(cells: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Cells (V, 3), each once, and the sums (V, 8) of what lies in them."""
    every, values = torch.cat(cells), torch.cat(sums)
    if len(every) == 0:
        return every, values
    number = numbered_cells(every)
    count = int(number.max()) + 1
    cell = every.new_empty(count, 3).index_copy_(0, number, every)
    return cell, values.new_zeros(count, 8).index_add_(0, number, values)


def _cloud(sums: Tensor) -> PointCloud:
    weight, pixels = sums[:, :1], sums[:, 7:]
    colours = (sums[:, 4:7] / weight * 255).round().clamp(0, 255).to(torch.uint8)
    sigma = (pixels / weight).sqrt()[:, 0]  # errors of the pixels of a voxel are much the same: a mean is no better
    points = exact_enough(sums[:, 1:4] / weight)
    return PointCloud(points.cpu(), colours.cpu(), (0.01 / sigma).float().cpu())
