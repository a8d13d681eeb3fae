"""Coloured triangle meshes, and writing them as binary PLY and as GLB (glTF 2.0)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError

MESH_SUFFIXES = (".ply", ".glb")

_VERTEX = np.dtype([("xyz", "<f4", 3), ("normal", "<f4", 3), ("rgb", "u1", 3)])
_FACE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])
_HEADER = (
    "ply\nformat binary_little_endian 1.0\nelement vertex {vertices}\nproperty float x\nproperty"
    " float y\nproperty float z\nproperty float nx\nproperty float ny\nproperty float nz\nproperty"
    " uchar red\nproperty uchar green\nproperty uchar blue\nelement face {faces}\nproperty list"
    " uchar int vertex_indices\nend_header\n"
)
# types of chunks
_JSON = 0x4E4F534A
_BINARY = 0x004E4942
# types of numbers in accessors
_FLOAT = 5126
_USHORT = 5123
_UINT = 5125
# what a buffer view is for
_ARRAY = 34962
_ELEMENTS = 34963


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
    """The mesh as glTF demands it: Y up and colours linear. Unlit, for photographs hold the light
    already.
    """
    arrays = {
        "POSITION": _y_up(mesh.vertices),
        "NORMAL": _y_up(mesh.normals),
        "COLOR_0": _linear(mesh.colors),
        "indices": mesh.faces.numpy().astype("<u4").reshape(-1),
    }
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    body = b""
    for name, array in arrays.items():
        data = array.tobytes()
        target = _ELEMENTS if name == "indices" else _ARRAY
        views.append(
            {"buffer": 0, "byteOffset": len(body), "byteLength": len(data), "target": target}
        )
        accessors.append({"bufferView": len(views) - 1, **_accessor(array)})
        body += data
    accessors[0] |= {
        "min": arrays["POSITION"].min(0).tolist(),
        "max": arrays["POSITION"].max(0).tolist(),
    }
    attributes = {name: index for index, name in enumerate(arrays) if name != "indices"}
    surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document = {
        "asset": {"version": "2.0", "generator": "vggt3_ros"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}}],
        "buffers": [{"byteLength": len(body)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(body), _BINARY) + body
    )
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def _accessor(array: NDArray[Any]) -> dict[str, Any]:
    if array.ndim == 1:
        return {"componentType": _UINT, "count": len(array), "type": "SCALAR"}
    if array.dtype == np.dtype("<u2"):
        return {"componentType": _USHORT, "normalized": True, "count": len(array), "type": "VEC4"}
    return {"componentType": _FLOAT, "count": len(array), "type": "VEC3"}


def _y_up(vectors: Tensor) -> NDArray[Any]:
    x, y, z = vectors.numpy().T
    return np.stack([x, z, -y], axis=1).astype("<f4")


def _linear(colors: Tensor) -> NDArray[Any]:
    """Colours (V, 4) uint16 of linear light, opaque, from (V, 3) uint8 of sRGB (IEC 61966-2-1)."""
    levels = np.arange(256) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    table = np.round(65535 * light).astype("<u2")
    opaque = np.full((len(colors), 1), 65535, dtype="<u2")
    return np.concatenate([table[colors.numpy()], opaque], axis=1)
