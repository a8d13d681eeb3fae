"""Meshes are read by other programs as they were meant: places, colours, fronts and which way is
up.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.mesh import Mesh, vertex_normals, write_mesh

COLORS = torch.tensor(
    [[255, 0, 0], [0, 128, 255], [10, 20, 30], [255, 255, 255]], dtype=torch.uint8
)


def tetrahedron() -> Mesh:
    """A corner at the origin, with edges along x, y and z of 1, 2 and 3."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    return Mesh(vertices, vertex_normals(vertices, faces), COLORS, faces)


def chunks_of_glb(data: bytes) -> tuple[dict, bytes]:
    """JSON and binary chunk, by the specification of glTF 2.0, section 4."""
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data)) and length % 4 == 0
    size, kind = struct.unpack("<I4s", data[12:20])
    rest = data[20 + size :]
    body_size, body_kind = struct.unpack("<I4s", rest[:8])
    assert (
        kind == b"JSON"
        and body_kind == b"BIN\0"
        and size % 4 == body_size % 4 == 0
        and len(rest) == 8 + body_size
    )
    return json.loads(data[20 : 20 + size]), rest[8:]


def test_normals_point_to_the_front_and_large_faces_weigh_more() -> None:
    mesh = tetrahedron()
    assert torch.allclose(mesh.normals.norm(dim=1), torch.ones(4))
    assert torch.allclose(
        mesh.normals[0], -torch.nn.functional.normalize(torch.tensor([6.0, 3, 2]), dim=0)
    )


def test_ply_is_read_by_another_program(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = tetrahedron()
    write_mesh(mesh, tmp_path / "mesh.ply")
    read = trimesh.load(tmp_path / "mesh.ply", process=False)
    assert np.array_equal(read.vertices, mesh.vertices) and np.array_equal(read.faces, mesh.faces)
    assert np.array_equal(
        read.visual.vertex_colors[:, :3], mesh.colors
    ) and read.volume == pytest.approx(1)
    assert np.allclose(read.vertex_normals, mesh.normals, atol=1e-6)


def test_glb_is_read_by_another_program_with_y_up(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = tetrahedron()
    write_mesh(mesh, tmp_path / "mesh.GLB")
    (read,) = trimesh.load_scene(tmp_path / "mesh.GLB", process=False).geometry.values()
    assert np.array_equal(read.vertices, [[0, 0, 0], [1, 0, 0], [0, 0, -2], [0, 3, 0]])
    assert np.array_equal(read.faces, mesh.faces) and read.volume == pytest.approx(1)


def test_glb_keeps_to_the_specification(tmp_path: Path) -> None:
    write_mesh(tetrahedron(), tmp_path / "mesh.glb")
    document, body = chunks_of_glb((tmp_path / "mesh.glb").read_bytes())
    (primitive,) = document["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    assert document["buffers"] == [{"byteLength": len(body)}]
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    assert (position["min"], position["max"]) == ([0, 0, -2], [1, 3, 0])
    color = document["accessors"][primitive["attributes"]["COLOR_0"]]
    view = document["bufferViews"][color["bufferView"]]
    assert (color["componentType"], color["normalized"], color["type"]) == (5123, True, "VEC4")
    levels = np.frombuffer(body, "<u2", 16, view["byteOffset"]).reshape(4, 4) / 65535
    assert np.allclose(levels[:, 3], 1) and np.allclose(levels[0, :3], [1, 0, 0])
    # 128 of sRGB is 22 % of the light, as glTF wants it
    assert levels[1, 1] == pytest.approx(0.2159, abs=1e-3)
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0


@pytest.mark.parametrize("name", ["mesh.obj", "mesh"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"must end in .ply or .glb; got (.obj|no suffix)"):
        write_mesh(tetrahedron(), tmp_path / name)
    assert not (tmp_path / name).exists()
