"""Coloured point clouds: thinning by voxels, and reading and writing of binary PLY."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.sim3 import Sim3

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")])
_HEADER = (
    "ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    "property float x\nproperty float y\nproperty float z\n"
    "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty float confidence\nend_header\n"
)


@dataclass(frozen=True, eq=False)
class PointCloud:
    """points (N, 3) float32, colors (N, 3) uint8 RGB, confidence (N,) float32."""

    points: Tensor
    colors: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, selection: Tensor) -> PointCloud:
        """The points that a mask (N,) or an index tensor selects."""
        return PointCloud(self.points[selection], self.colors[selection], self.confidence[selection])

    def transformed(self, a_from_b: Sim3) -> PointCloud:
        """The same points, expressed in frame a."""
        return PointCloud(a_from_b.points(self.points), self.colors, self.confidence)


def voxel_thin(cloud: PointCloud, voxel_size: float) -> PointCloud:
    """Keep the most confident point of every cube of side `voxel_size` (the points' unit)."""
    if not voxel_size > 0:
        raise InputError(f"voxel_size must be positive, got {voxel_size}")
    if len(cloud) == 0:
        return cloud
    order = torch.argsort(cloud.confidence, descending=True, stable=True)
    cells = torch.floor(cloud.points[order].double() / voxel_size).long()
    cells -= cells.amin(0)
    spans = cells.amax(0) + 1
    if float(spans.double().prod()) >= 2.0**62:
        raise InputError(f"voxel_size {voxel_size} is too small for a cloud of {(spans * voxel_size).tolist()} in size")
    keys = (cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2]  # unique over rows is ten times slower
    _, cell_of_point = torch.unique(keys, return_inverse=True)
    first = torch.full((int(cell_of_point.max()) + 1,), len(cells), dtype=torch.long)
    first.scatter_reduce_(0, cell_of_point, torch.arange(len(cells)), reduce="amin")
    return cloud[order[first.sort().values]]


def write_ply(cloud: PointCloud, path: Path) -> None:
    """Write a binary little-endian PLY with x y z red green blue confidence."""
    vertices = np.empty(len(cloud), dtype=_VERTEX)
    vertices["xyz"] = cloud.points.numpy()
    vertices["rgb"] = cloud.colors.numpy()
    vertices["confidence"] = cloud.confidence.numpy()
    path.write_bytes(_HEADER.format(count=len(cloud)).encode() + vertices.tobytes())


def read_ply(path: Path) -> PointCloud:
    """Read what write_ply wrote. Raises InputError for other layouts and truncated files."""
    data = path.read_bytes()
    header, separator, body = data.partition(b"end_header\n")
    counts = [line.split()[2] for line in header.splitlines() if line.startswith(b"element vertex ")]
    expected = (_HEADER.format(count=counts[0].decode()).encode() if counts else b"").partition(b"end_header\n")[0]
    if not separator or header != expected:
        raise InputError(f"{path}: not a point cloud written by vggt3_ros (its PLY header differs)")
    if len(body) != int(counts[0]) * _VERTEX.itemsize:
        raise InputError(f"{path}: truncated, {len(body)} bytes for {int(counts[0])} points of {_VERTEX.itemsize}")
    vertices = np.frombuffer(body, dtype=_VERTEX)
    return PointCloud(*(torch.from_numpy(vertices[name].copy()) for name in ("xyz", "rgb", "confidence")))
