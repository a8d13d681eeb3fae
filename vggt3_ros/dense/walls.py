"""Planes along the main directions of a place, among depths that are too noisy for views to agree
on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, conv1d

from vggt3_ros.dense.planes import Planes
from vggt3_ros.dense.shape import camera_points
from vggt3_ros.geometry.se3 import transform_points

_SPARSE = 4  # pixels each way between those that vote
_PARALLEL = math.cos(math.radians(5.0))
_PERPENDICULAR = math.sin(math.radians(5.0))
_BLUR = (1.0, 2.0, 3.0, 2.0, 1.0)  # weights of neighbouring bins
_AROUND = 31  # bins that tell how many votes there are anyway
_APART = 3  # bins between peaks
_MAX_PLANES = 12  # planes


def votes(
    depth: Tensor, open_to: Tensor, intrinsics: Tensor, world_from_cam: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (N, 3) in the world of every 16th pixel, and weights (N,), float64 on the CPU: near
    ones are more exact.

    Of keyframes with depth (S, h, w), whose pixels `open_to` (S, h, w) vote; intrinsics (S, 3, 3)
    and world_from_cam (S, 4, 4).
    """
    points, weight = [], []
    for z, chosen, own_intrinsics, pose in zip(
        depth, open_to, intrinsics, world_from_cam, strict=True
    ):
        own = camera_points(z[None], own_intrinsics[None])[0, ::_SPARSE, ::_SPARSE][
            chosen[::_SPARSE, ::_SPARSE]
        ]
        points.append(transform_points(pose.double(), own.double()))
        weight.append(1 / own[:, 2].double())
    return torch.cat(points).cpu(), torch.cat(weight).cpu()


def main_directions(planes: Planes) -> Tensor:
    """Perpendicular unit vectors (D, 3) float64: the most usual normal of planes, the most usual
    one across it, and what is perpendicular to both. There are fewer where there are no such
    planes.
    """
    if len(planes) == 0:
        return torch.zeros(0, 3, dtype=torch.float64)
    normals = planes.equations[:, :3]
    support = ((normals @ normals.T).abs() > _PARALLEL).double() @ planes.pixels
    first = normals[support.argmax()]
    across = torch.where((normals @ first).abs() < _PERPENDICULAR, support, 0.0)
    if not bool(across.any()):
        return first[None]
    second = normals[across.argmax()]
    second = torch.nn.functional.normalize(second - (second @ first) * first, dim=0)
    return torch.stack([first, second, torch.linalg.cross(first, second)])


def wall_planes(directions: Tensor, points: Tensor, weight: Tensor, bin_size: float) -> Tensor:
    """Planes (P, 4) across directions (D, 3) at which points (N, 3) with weights (N,) heap up;
    float64.

    bin_size: how finely positions are told apart, in the unit of points.
    """
    found: list[tuple[float, Tensor]] = []
    for direction in directions if len(points) else ():
        along = points @ direction
        first = float(along.quantile(0.005))
        count = int((float(along.quantile(0.995)) - first) / bin_size) + 1
        place = ((along - first) / bin_size).round().long()
        inside = (place >= 0) & (place < count)
        votes = torch.zeros(count, dtype=points.dtype, device=points.device)
        votes.index_add_(0, place[inside], weight[inside])
        for height, position in _peaks(votes):
            offset = -(first + bin_size * position)
            found.append((height, torch.cat([direction, direction.new_tensor([offset])])))
    found.sort(key=lambda each: -each[0])
    if not found:
        return points.new_zeros(0, 4)
    return torch.stack([plane for _, plane in found[:_MAX_PLANES]])


def _peaks(votes: Tensor) -> list[tuple[float, float]]:
    """By how much peaks of votes (N,) exceed what is around them, and their positions, highest
    first.
    """
    blur = votes.new_tensor(_BLUR)[None, None]
    smooth = conv1d(votes[None, None], blur / blur.sum(), padding=len(_BLUR) // 2)
    usual = avg_pool1d(smooth, _AROUND, 1, _AROUND // 2, count_include_pad=False)
    excess, smooth = (smooth - usual)[0, 0], smooth[0, 0]
    peaks = []
    for _ in range(_MAX_PLANES):
        best = int(excess.argmax())
        height = float(excess[best])
        if height <= 0:
            break
        peaks.append((height, best + _vertex(smooth[max(0, best - 1) : best + 2])))
        excess[max(0, best - _APART) : best + _APART + 1] = 0
    return peaks


def _vertex(three: Tensor) -> float:
    """Offset from the middle of three values to the vertex of their parabola, 0 at the end of a
    row.
    """
    if len(three) < 3:
        return 0.0
    before, middle, after = three.tolist()
    curvature = before - 2 * middle + after
    return min(0.5, max(-0.5, (before - after) / (2 * curvature))) if curvature < 0 else 0.0
