"""What odometry says of frames that were found in a scene: whether all of them were found in one
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse

# What odometry, together with its noise, may be off by between two frames: metres and rad, and of
# the way between them. Places that look alike are farther apart.
_NEAR_M = 0.5
_NEAR_RAD = np.radians(10.0)
_PER_METRE = 0.1
_RAD_PER_METRE = np.radians(1.0)


def places(known: Mapping[int, Tensor], odometry: Sequence[Tensor | None]) -> list[list[int]]:
    """Frames that were found, in groups that odometry ties together, the largest first.

    known: poses map_from_cam (4, 4) by the number of the frame; odometry: of all frames,
    world_from_cam (4, 4) in metres and any frame. One that was found in a place that looks alike is
    in another group. Frames without odometry are in no group.
    """
    from scipy.sparse.csgraph import connected_components

    found = [number for number in sorted(known) if odometry[number] is not None]
    if not found:
        return []
    given = [number for number, pose in enumerate(odometry) if pose is not None]
    driven = torch.stack([pose for pose in odometry if pose is not None])
    steps = torch.diff(driven[:, :3, 3], dim=0).norm(dim=-1)
    way = torch.cat([steps.new_zeros(1), steps.cumsum(0)])  # metres until each of them
    rows = [given.index(number) for number in found]
    way = way[rows]
    odometry_from_cam = driven[rows]
    map_from_cam = torch.stack([known[number] for number in found])
    map_from_odometry = map_from_cam @ se3_inverse(odometry_from_cam)
    near = torch.zeros(len(found), len(found), dtype=torch.bool)
    for row in range(len(found)):
        # the camera, where each of the others says that odometry brings it
        off = se3_inverse(map_from_cam[row]) @ map_from_odometry @ odometry_from_cam[row]
        metres = (way - way[row]).abs()
        near[row] = off[:, :3, 3].norm(dim=-1) <= _NEAR_M + _PER_METRE * metres
        near[row] &= rotation_angle(off[:, :3, :3]) <= _NEAR_RAD + _RAD_PER_METRE * metres
    label = connected_components(near.numpy(), directed=False)[1]
    groups: dict[int, list[int]] = {}
    for number, each in zip(found, label.tolist(), strict=True):
        groups.setdefault(each, []).append(number)
    return sorted(groups.values(), key=len, reverse=True)
