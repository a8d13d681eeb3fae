"""Coloured point clouds: thinning by voxels, and reading and writing of binary PLY."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.sim3 import Sim3

_FAR = 2048.0  # from there on float32 rounds by more than a tenth of a millimetre
_HEADER = (
    "ply\nformat binary_little_endian 1.0\nelement vertex {count}\nproperty {kind} x\nproperty"
    " {kind} y\nproperty {kind} z\nproperty uchar red\nproperty uchar green\nproperty uchar"
    " blue\nproperty float confidence\nend_header\n"
)
_HEADERS = {
    kind: re.compile(_HEADER.replace(".", r"\.").format(count="([0-9]{1,15})", kind=kind).encode())
    for kind in ("float", "double")
}


@dataclass(frozen=True, eq=False)
class PointCloud:
    """points (N, 3) float32, or float64 where they lie far from the origin; colors (N, 3) uint8
    RGB; confidence (N,) float32.
    """

    points: Tensor
    colors: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, selection: Tensor) -> PointCloud:
        """The points that a mask (N,) or an index tensor selects."""
        return PointCloud(
            self.points[selection], self.colors[selection], self.confidence[selection]
        )

    def transformed(self, a_from_b: Sim3) -> PointCloud:
        """The same points, expressed in frame a: float64 if some of them lie farther than 2048 from
        its origin.
        """
        return PointCloud(
            exact_enough(a_from_b.points(self.points.double())), self.colors, self.confidence
        )


def concatenated(clouds: Sequence[PointCloud]) -> PointCloud:
    """The points of one cloud or more, one after the other."""
    return PointCloud(
        torch.cat([cloud.points for cloud in clouds]),
        torch.cat([cloud.colors for cloud in clouds]),
        torch.cat([cloud.confidence for cloud in clouds]),
    )


def exact_enough(points: Tensor) -> Tensor:
    """Points (N, 3) float64 as float32, unless some of them lie farther than 2048 from the
    origin.
    """
    return points if bool((points.abs() > _FAR).any()) else points.float()


def voxel_thin(cloud: PointCloud, voxel_size: float) -> PointCloud:
    """Keep the most confident point of every cube of side `voxel_size` (the points' unit)."""
    if not voxel_size > 0:
        raise InputError(f"voxel_size must be positive, got {voxel_size}")
    if len(cloud) == 0:
        return cloud
    order = torch.argsort(cloud.confidence, descending=True, stable=True)
    cell_of_point = numbered_cells(torch.floor(cloud.points[order].double() / voxel_size).long())
    first = torch.full((int(cell_of_point.max()) + 1,), len(cloud), dtype=torch.long)
    first.scatter_reduce_(0, cell_of_point, torch.arange(len(cloud)), reduce="amin")
    return cloud[order[first.sort().values]]


def at_most(most: int, thinned: Callable[[float], PointCloud], voxel_size: float) -> PointCloud:
    """A cloud of so many points at most: thinned(voxel_size), or that of wider voxels."""
    cloud = thinned(voxel_size)
    while len(cloud) > most:
        # points on surfaces: as the square of the voxels
        voxel_size *= max(1.1, (len(cloud) / most) ** 0.5)
        cloud = thinned(voxel_size)
    return cloud


def numbered_cells(cells: Tensor) -> Tensor:
    """Numbers (N,) of N > 0 cells given by whole coordinates (N, 3): from 0 on, without gaps, equal
    cells alike.
    """
    cells = cells - cells.amin(0)
    spans = cells.amax(0) + 1
    numbers: Tensor
    if float(spans.double().prod()) < 2.0**62:
        keys = (cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2]
        _, numbers = torch.unique(keys, return_inverse=True)
    else:  # too many cells for one whole number, and ten times slower
        _, numbers = torch.unique(cells, dim=0, return_inverse=True)
    return numbers


def write_ply(cloud: PointCloud, path: Path) -> None:
    """Write a binary little-endian PLY with x y z (double if the cloud has float64) red green blue
    confidence.
    """
    kind = "double" if cloud.points.dtype == torch.float64 else "float"
    vertices = np.empty(len(cloud), dtype=_vertex(kind))
    vertices["xyz"] = cloud.points.numpy()
    vertices["rgb"] = cloud.colors.numpy()
    vertices["confidence"] = cloud.confidence.numpy()
    path.write_bytes(_HEADER.format(count=len(cloud), kind=kind).encode() + vertices.tobytes())


def read_ply(path: Path) -> PointCloud:
    """Read what write_ply wrote. Raises OSError, and InputError for other layouts and truncated
    files.
    """
    return parse_ply(path.read_bytes(), str(path))


def parse_ply(data: bytes, name: str) -> PointCloud:
    """The cloud in the bytes of a file of write_ply. Raises InputError, naming `name`, for anything
    else.
    """
    matches = {kind: pattern.match(data) for kind, pattern in _HEADERS.items()}
    kind, found = next(
        ((kind, match) for kind, match in matches.items() if match is not None), ("", None)
    )
    if found is None:
        raise InputError(
            f"{name}: not a point cloud written by vggt3_ros (its PLY header differs); map again"
        )
    count = int(found[1])
    body = data[found.end() :]
    vertex = _vertex(kind)
    if len(body) != count * vertex.itemsize:
        size = f"{len(body)} bytes for {count} points of {vertex.itemsize}"
        raise InputError(
            f"{name}: truncated or overlong, {size}; restore it from a copy or map again"
        )
    vertices = np.frombuffer(body, dtype=vertex)
    return PointCloud(
        *(torch.from_numpy(vertices[name].copy()) for name in ("xyz", "rgb", "confidence"))
    )


def _vertex(kind: str) -> np.dtype[np.void]:
    """A point in a PLY whose coordinates are of this kind."""
    return np.dtype(
        [("xyz", "<f8" if kind == "double" else "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")]
    )
