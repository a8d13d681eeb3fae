"""Coloured triangle meshes, and writing them as binary PLY and as GLB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.glb import Primitive, glb

MESH_SUFFIXES = (".ply", ".glb")

_VERTEX = np.dtype([("xyz", "<f4", 3), ("normal", "<f4", 3), ("rgb", "u1", 3)])
_FACE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])
_HEADER = (
    "ply\nformat binary_little_endian 1.0\nelement vertex {vertices}\nproperty float x\nproperty"
    " float y\nproperty float z\nproperty float nx\nproperty float ny\nproperty float nz\nproperty"
    " uchar red\nproperty uchar green\nproperty uchar blue\nelement face {faces}\nproperty list"
    " uchar int vertex_indices\nend_header\n"
)


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float32, normals (V, 3) float32 of unit length, colors (V, 3) uint8 RGB,
    faces (F, 3) int32.

    The vertices of a face are in counter-clockwise order for whoever sees its front.
    """

    vertices: Tensor
    normals: Tensor
    colors: Tensor
    faces: Tensor

    def __len__(self) -> int:
        return len(self.faces)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (V, 3) of vertices (V, 3): means over the faces (F, 3) around, weighted by their
    areas.
    """
    a, b, c = vertices[faces.long()].unbind(1)
    doubled = torch.linalg.cross(b - a, c - a)
    sums = torch.zeros_like(vertices)
    for corner in faces.long().unbind(1):
        sums.index_add_(0, corner, doubled)
    return torch.nn.functional.normalize(sums, dim=1, eps=1e-30)


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh, Z up, in the format of the suffix, .ply or .glb. Raises InputError for other
    suffixes.
    """
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(
            f"{path} must end in {' or '.join(MESH_SUFFIXES)}; got {path.suffix or 'no suffix'}"
        )
    path.write_bytes(_glb(mesh) if suffix == ".glb" else _ply(mesh))


def _ply(mesh: Mesh) -> bytes:
    vertices = np.empty(len(mesh.vertices), dtype=_VERTEX)
    vertices["xyz"] = mesh.vertices.numpy()
    vertices["normal"] = mesh.normals.numpy()
    vertices["rgb"] = mesh.colors.numpy()
    faces = np.empty(len(mesh.faces), dtype=_FACE)
    faces["count"] = 3
    faces["vertices"] = mesh.faces.numpy()
    header = _HEADER.format(vertices=len(vertices), faces=len(faces)).encode()
    return header + vertices.tobytes() + faces.tobytes()


def _glb(mesh: Mesh) -> bytes:
    surface = Primitive("mesh", "triangles", mesh.vertices, mesh.colors, mesh.normals, mesh.faces)
    return glb([surface])
