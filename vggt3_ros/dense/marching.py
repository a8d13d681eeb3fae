"""The surface of a field of signed distances, as triangles (marching cubes of Lewiner et al. 2003,
of scikit-image).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.dense.blocks import SIDE, Blocks
from vggt3_ros.dense.tsdf_volume import TsdfVolume
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.mesh import Mesh, vertex_normals

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_WIDE = 16  # blocks along an edge of the cubes that are worked on one by one
_EDGE = _WIDE * SIDE
# truncations: with no lattice point on the surface, every vertex is within one edge of the lattice
_MIN_TRUNCATIONS = 1e-3
_ON_LATTICE = 1e-4  # voxels: less than any vertex is from the ends of its edge
# voxels by which distances may differ within a cell: those of a plane differ by 1.73 at most
_STEEPEST = 3.0
_ISLAND = 64.0  # voxel faces: what is smaller is dropped
_UNSEEN = 128.0  # grey of vertices that no image shows


def surface(volume: TsdfVolume, progress: Callable[[float], None] | None = None) -> Mesh:
    """The mesh of the surface in a volume, in the world, on the CPU, its front where the views are.

    There is none where distances are not known on both sides; pieces smaller than 64 voxel faces
    are left out. progress(0..1) may raise to cancel. Raises InputError when scikit-image is not
    installed, or nothing remains.
    """
    cubes = require_marching_cubes()
    tell = progress or (lambda share: None)
    vertices = [np.empty((0, 3))]
    faces = [np.empty((0, 3), np.int64)]
    corners = np.unique(volume.blocks.coordinates.cpu().numpy() // _WIDE, axis=0)
    first = 0
    for done, corner in enumerate(corners):
        tell(0.8 * done / len(corners))
        found = _cube_surface(volume, corner * _WIDE, cubes)
        if found is not None:
            vertices.append(found[0] + corner * _EDGE)
            faces.append(found[1] + first)
            first += len(found[0])
    points, triangles = _welded(np.concatenate(vertices), np.concatenate(faces))
    points, triangles = _without_islands(points, triangles)
    if len(triangles) == 0:
        raise InputError(
            "the depth shows no surface larger than 64 voxel faces; give smaller voxels or more"
            " views"
        )
    tell(0.9)
    placed = torch.from_numpy((points * volume.voxel).astype(np.float32))
    indices = torch.from_numpy(triangles.astype(np.int32))
    return Mesh(placed, vertex_normals(placed, indices), _colors(volume, points), indices)


def require_marching_cubes() -> Any:
    """The function of scikit-image. Raises InputError when it is not installed."""
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise InputError(
            "meshes need the package scikit-image, which is not installed: pip install"
            " 'vggt3_ros[mesh]'"
        ) from error
    return marching_cubes


def _cube_surface(
    volume: TsdfVolume, start: Integers, cubes: Any
) -> tuple[Floats, Integers] | None:
    """Vertices (V, 3), in voxels from block `start` (3,), and faces (F, 3) in a cube of blocks;
    None without any.
    """
    distance, weight = _dense(volume, start)
    known = weight > 0
    mean = distance / np.where(known, weight, 1.0)
    mean = np.where(
        mean < 0, np.minimum(mean, -_MIN_TRUNCATIONS), np.maximum(mean, _MIN_TRUNCATIONS)
    )
    whole = _over_corners(np.logical_and, known)
    highest = _over_corners(np.maximum, mean)
    lowest = _over_corners(np.minimum, mean)
    crossed = (
        whole & (lowest < 0) & (highest > 0) & (highest - lowest < _STEEPEST / volume.truncation)
    )
    if not crossed.any():
        return None
    mask = np.zeros(mean.shape, dtype=bool)
    mask[1:, 1:, 1:] = crossed  # scikit-image asks the mask at the last corner of a cell
    vertices, faces, _, _ = cubes(mean, 0.0, mask=mask)
    return vertices.astype(np.float64), faces.astype(np.int64)


def _over_corners(combine: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Values (129, 129, 129) of the lattice combined over the corners of each cell, (128, 128,
    128).
    """
    for _ in range(3):
        values = np.moveaxis(combine(values[1:], values[:-1]), 0, -1)
    return values


def _dense(volume: TsdfVolume, start: Integers) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance sums and weights (129, 129, 129) of the cube that begins at block `start`, 0 where
    no block is.
    """
    first = torch.from_numpy(start).to(volume.blocks.coordinates)
    cells = volume.blocks.coordinates - first
    index = ((cells >= 0) & (cells <= _WIDE)).all(1).nonzero()[:, 0]
    i, j, k = cells[index].cpu().numpy().T
    wide = _WIDE + 1
    result = []
    for values in (volume.distance, volume.weight):
        array = np.zeros((wide, wide, wide, SIDE, SIDE, SIDE), np.float32)
        array[i, j, k] = values[index].cpu().numpy().reshape(-1, SIDE, SIDE, SIDE)
        whole = array.transpose(0, 3, 1, 4, 2, 5).reshape(wide * SIDE, wide * SIDE, wide * SIDE)
        result.append(whole[: _EDGE + 1, : _EDGE + 1, : _EDGE + 1])
    return result[0], result[1]


def _welded(vertices: Floats, faces: Integers) -> tuple[Floats, Integers]:
    """The same surface with one vertex where neighbouring cubes have one each.

    Such vertices lie on edges of the lattice in the planes between cubes, and no edge has two.
    """
    nearest = np.round(vertices)
    off = np.abs(vertices - nearest) > _ON_LATTICE
    between = (off.sum(1) == 1) & (~off & (nearest % _EDGE == 0)).any(1)
    shared = np.flatnonzero(between)
    start = np.where(off, np.floor(vertices), nearest)[shared].astype(np.int64)
    edges = np.column_stack([start, off[shared].argmax(1)])
    _, first, edge = np.unique(edges, axis=0, return_index=True, return_inverse=True)
    same = np.arange(len(vertices))
    same[shared] = shared[first][edge.reshape(-1)]
    kept = same == np.arange(len(vertices))
    return vertices[kept], (np.cumsum(kept) - 1)[same[faces]]


def _without_islands(vertices: Floats, faces: Integers) -> tuple[Floats, Integers]:
    """Only those connected pieces of vertices (V, 3), in voxels, and faces (F, 3) that are large
    enough.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(vertices)
    if count == 0:
        return vertices, faces
    links = coo_array(
        (np.ones(2 * len(faces)), (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())),
        (count, count),
    )
    pieces, piece = connected_components(links, directed=False)
    a, b, c = vertices[faces].swapaxes(0, 1)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    large = np.bincount(piece[faces[:, 0]], area, pieces) >= _ISLAND
    kept = large[piece]
    return vertices[kept], (np.cumsum(kept) - 1)[faces[large[piece[faces[:, 0]]]]]


def _colors(volume: TsdfVolume, vertices: Floats) -> Tensor:
    """Colours (V, 3) uint8: means of the two lattice points on either side of vertices (V, 3), in
    voxels.
    """
    points = torch.from_numpy(vertices)
    colors = torch.zeros(len(points), 3)
    weights = torch.zeros(len(points))
    for corner in (points.floor().long(), points.ceil().long()):
        index, inner = _place(volume.blocks, corner.to(volume.blocks.coordinates))
        colors += volume.color[index, inner].cpu()
        weights += volume.color_weight[index, inner].cpu()
    mean = torch.where(weights[:, None] > 0, colors / weights[:, None].clamp(min=1e-30), _UNSEEN)
    return mean.round().clamp(0, 255).to(torch.uint8)


def _place(blocks: Blocks, points: Tensor) -> tuple[Tensor, Tensor]:
    """Block and place in it (N,) of lattice points (N, 3), all of which are in some block."""
    block = torch.div(points, SIDE, rounding_mode="floor")
    i, j, k = (points - SIDE * block).unbind(1)
    return blocks.find(block), (i * SIDE + j) * SIDE + k
