"""One cloud of the depths of all keyframes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.shape import camera_points
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.pointcloud import PointCloud, exact_enough, numbered_cells
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import se3_inverse, transform_points

TAKEN = (Provenance.AGREED, Provenance.PLANE, Provenance.NEAR)
_MERGED_AT = 1_000_000  # points that are gathered before they are fused together
_SAME = 0.01  # relative depth within which a keyframe has a point ...
_TIMES_USUAL = 3.0  # ... or so many times what depths usually differ by ...
_RELATED = 0.05  # ... of those that differ by less than this ...
_SAMPLED = 16  # ... at every so many points
_SHARE = 0.51  # of the keyframes that look at a point, those that must have it: more than half ...
# ... and of many, but for this number of keyframes
_SHARE_OF_MANY = 0.8
_MISSING = 2


def fused_cloud(
    depth: DenseDepth,
    keyframes: Keyframes,
    voxel_m: float = 0.02,
    take: Collection[Provenance] = TAKEN,
) -> PointCloud:
    """One point per cube of side voxel_m (metres) in the world: the mean of its pixels, weighted by
    1 / sigma^2.

    Of pixels whose depth is known as `take` says. Points that most of the keyframes that look at
    them do not have, but see through, are left out. confidence is 0.01 / expected error in metres:
    1 for one centimetre, 0.2 for five. Points are worked through keyframe by keyframe.
    """
    if not voxel_m > 0:
        raise InputError(f"voxel_m must be above 0, got {voxel_m}")
    if len(depth) != len(keyframes) or depth.depth.shape[1:] != keyframes.size_hw:
        given = f"{tuple(depth.depth.shape)} for {len(keyframes)} keyframes of {keyframes.size_hw}"
        raise InputError(f"depth and keyframes do not belong together: depth is {given}")
    wanted = torch.tensor(
        [int(each) for each in take], device=depth.depth.device, dtype=depth.provenance.dtype
    )
    taken = torch.isin(depth.provenance, wanted) & (depth.depth > 0)
    sums: list[Tensor] = []
    cells: list[Tensor] = []
    waiting = 0
    for index in range(len(keyframes)):
        chosen = taken[index]
        points = camera_points(depth.depth[index][None], keyframes.intrinsics[index][None])[0][
            chosen
        ]
        points = transform_points(keyframes.world_from_cam[index].double(), points.double())
        colours = keyframes.images[index].permute(1, 2, 0)[chosen]
        sigma = depth.sigma[index][chosen]
        cells.append(torch.floor(points / voxel_m).long())
        sums.append(_weighted(points, colours, sigma))
        waiting += len(points)
        if waiting > _MERGED_AT:
            cell, total = _merged(cells, sums)
            cells = [cell]
            sums = [total]
            waiting = 0
    total = _merged(cells, sums)[1]
    points = total[:, 1:4] / total[:, :1]
    return _cloud(total[_confirmed(points, depth.depth, taken, keyframes, voxel_m / 2)])


def _confirmed(
    points: Tensor, depth: Tensor, taken: Tensor, keyframes: Keyframes, least: float
) -> Tensor:
    """Which points (N, 3) in the world are had by enough of the keyframes that look at them, past
    nothing nearer (N,).

    A keyframe looks at a point where its depth (S, h, w) was taken (S, h, w), and has it if that is
    the same: to 1 %, `least`, or three times what depths usually differ by, as those of a sensor's
    reference poses do.
    """
    usual = [farther / z for _, farther, z in _looks(points[::_SAMPLED], depth, taken, keyframes)]
    usual_off = torch.cat(usual).abs()
    usual_off = usual_off[usual_off < _RELATED]
    same = max(_SAME, _TIMES_USUAL * float(usual_off.median())) if len(usual_off) else _SAME
    having, looking = (
        torch.zeros(len(points), dtype=torch.int32, device=points.device) for _ in range(2)
    )
    for seen, farther, z in _looks(points, depth, taken, keyframes):
        off = torch.clamp(same * z, min=least)
        having[seen] += (farther.abs() < off).int()
        looking[seen] += (farther > -off).int()
    return having >= torch.maximum(_SHARE * looking, _SHARE_OF_MANY * looking - _MISSING)


def _looks(
    points: Tensor, depth: Tensor, taken: Tensor, keyframes: Keyframes
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each keyframe which of points (N, 3) it has taken depth at (n,), how much farther that is
    (n,), and how far the points are (n,), along its axis.
    """
    height, width = keyframes.size_hw
    for index in range(len(keyframes)):
        cam_from_world = se3_inverse(keyframes.world_from_cam[index].double())
        pixels, z = project(
            transform_points(cam_from_world, points), keyframes.intrinsics[index].double()
        )
        column, row = pixels.nan_to_num(-1.0).round().unbind(1)
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        seen = inside.nonzero()[:, 0]
        place = (row[seen] * width + column[seen]).long()
        looks = taken[index].flatten()[place]
        seen = seen[looks]
        place = place[looks]
        yield seen, depth[index].flatten()[place] - z[seen], z[seen]


def _weighted(points: Tensor, colours: Tensor, sigma: Tensor) -> Tensor:
    """Sums (N, 8): weight, weighted position and colour, and the number of pixels."""
    weight = 1 / sigma.double().clamp(min=1e-4).square()[:, None]
    return torch.cat([weight, weight * points, weight * colours, torch.ones_like(weight)], dim=1)


def _merged(cells: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Cells (V, 3), each once, and the sums (V, 8) of what lies in them."""
    every = torch.cat(cells)
    values = torch.cat(sums)
    if len(every) == 0:
        return every, values
    number = numbered_cells(every)
    count = int(number.max()) + 1
    cell = every.new_empty(count, 3).index_copy_(0, number, every)
    return cell, values.new_zeros(count, 8).index_add_(0, number, values)


def _cloud(sums: Tensor) -> PointCloud:
    weight = sums[:, :1]
    pixels = sums[:, 7:]
    colours = (sums[:, 4:7] / weight * 255).round().clamp(0, 255).to(torch.uint8)
    # errors of the pixels of a voxel are much the same: a mean is no better
    sigma = (pixels / weight).sqrt()[:, 0]
    points = exact_enough(sums[:, 1:4] / weight)
    return PointCloud(points.cpu(), colours.cpu(), (0.01 / sigma).float().cpu())
