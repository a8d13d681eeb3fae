"""Writing binary glTF 2.0 (GLB): triangles, points and lines, Z up, colours of photographs.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, sections 3.6 to 3.9 and 4.4.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
_MODES = {"points": 0, "lines": 1, "triangles": 4}


@dataclass(frozen=True, eq=False)
class Primitive:
    """What is drawn under one name: vertices (V, 3), colors (V, 3) uint8 RGB, and, where there are
    some, normals (V, 3) of unit length and indices (N,) of vertices: two for each line, three for
    each triangle.
    """

    name: str
    kind: Literal["points", "lines", "triangles"]
    vertices: Tensor
    colors: Tensor
    normals: Tensor | None = None
    indices: Tensor | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By the names that glTF has for them, as it demands them: Y up and colours linear."""
        arrays = {"POSITION": _y_up(self.vertices)}
        if self.normals is not None:
            arrays["NORMAL"] = _y_up(self.normals)
        arrays["COLOR_0"] = _linear(self.colors)
        if self.indices is not None:
            arrays["indices"] = self.indices.numpy().astype("<u4").reshape(-1)
        return arrays


def glb(primitives: Sequence[Primitive]) -> bytes:
    """A file with a mesh and a node of each primitive's name. Unlit, for photographs hold the light
    already.
    """
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    body = bytearray()
    for primitive in primitives:
        numbers = {}
        for name, array in primitive.arrays().items():
            numbers[name] = len(accessors)
            accessors.append({"bufferView": len(views), **_accessor(name, array)})
            views.append(_view(name, array, len(body)))
            body += array.tobytes()
        drawn: dict[str, Any] = {"mode": _MODES[primitive.kind], "material": 0}
        if "indices" in numbers:
            drawn["indices"] = numbers.pop("indices")
        meshes.append({"name": primitive.name, "primitives": [{"attributes": numbers, **drawn}]})
    surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    nodes = [{"name": each.name, "mesh": index} for index, each in enumerate(primitives)]
    document = {
        "asset": {"version": "2.0", "generator": "vggt3_ros"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
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


def _view(name: str, array: NDArray[Any], offset: int) -> dict[str, Any]:
    target = _ELEMENTS if name == "indices" else _ARRAY
    return {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target}


def _accessor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    if array.ndim == 1:
        return {"componentType": _UINT, "count": len(array), "type": "SCALAR"}
    if array.dtype == np.dtype("<u2"):
        return {"componentType": _USHORT, "normalized": True, "count": len(array), "type": "VEC4"}
    accessor = {"componentType": _FLOAT, "count": len(array), "type": "VEC3"}
    if name == "POSITION":
        accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
    return accessor


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
