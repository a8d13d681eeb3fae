"""Keyframes as a coloured cloud: RViz shows a path in one colour, and not where cameras look."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.geometry.frustum import frustum_lines
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.scene.coloring import LOOP_COLOR, colorings
from vggt3_ros.scene.scene import Scene

_EDGE = 8  # points of each edge of a pyramid
_LOOP = 50  # points of the line between two keyframes that close a loop


def keyframe_cloud(scene: Scene) -> PointCloud:
    """Points along the edges of a pyramid for each keyframe, coloured by the scene that it was
    first in (by its order where that is this one, grey where no landmarks tie it to the others),
    and along a line for each loop. Confidence is 1.
    """
    poses = scene.map_from_keyframes.double()
    edges = _dotted(frustum_lines(poses), _EDGE).reshape(-1, 3)
    colors = np.repeat(colorings(scene)[0].colors, len(edges) // len(poses), axis=0)
    ends = [[loop.first, loop.second] for loop in scene.loops]
    lines = poses[:, :3, 3][torch.tensor(ends, dtype=torch.long).reshape(-1, 2)]
    loops = _dotted(lines, _LOOP).reshape(-1, 3)
    loop_colors = torch.tensor(LOOP_COLOR, dtype=torch.uint8).expand(len(loops), 3)
    points = torch.cat([edges, loops]).float()
    return PointCloud(
        points, torch.cat([torch.from_numpy(colors), loop_colors]), torch.ones(len(points))
    )


def _dotted(lines: Tensor, count: int) -> Tensor:
    """So many points (..., count, 3) along lines (..., 2, 3), from one end to the other."""
    along = torch.linspace(0, 1, count, dtype=lines.dtype)[:, None]
    return (1 - along) * lines[..., :1, :] + along * lines[..., 1:, :]
