"""`vggt3 export SCENE --mesh FILE`: the surfaces that keyframes' depth shows, as a mesh with
colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import check_not_input, scene_files
from vggt3_ros.errors import InputError
from vggt3_ros.files import atomic_path, check_writable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vggt3_ros.geometry.mesh import Mesh
    from vggt3_ros.geometry.pointcloud import PointCloud
    from vggt3_ros.scene.depth import KeyframeDepth
    from vggt3_ros.scene.scene import Scene

# what is far tells nothing: it would triple the errors
_WEIGHTS = {"AGREED": 1.0, "PLANE": 1.0, "NEAR": 0.3}


def check_mesh_path(path: Path, scene: Path) -> None:
    """Raise `InputError` unless a mesh can be written to `path`, before anything is calculated."""
    from vggt3_ros.geometry.mesh import MESH_SUFFIXES

    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(
            f"--mesh {path} must end in {' or '.join(MESH_SUFFIXES)}, which says the format"
        )
    check_writable(path, "--mesh")
    check_not_input(path, "--mesh", scene_files(scene))


def export_mesh(scene: Scene, source: Path, path: Path, voxel: float | None) -> dict[str, Any]:
    """Write the mesh of a scene read from `source`, tell its size, and return that as data for
    JSON.
    """
    from vggt3_ros.cli.progress import ProgressBar
    from vggt3_ros.dense.marching import require_marching_cubes, surface
    from vggt3_ros.dense.tsdf import fuse
    from vggt3_ros.dense.tsdf_volume import TsdfSettings
    from vggt3_ros.geometry.mesh import write_mesh

    depth = _depth_of(scene, source)
    require_marching_cubes()
    with ProgressBar("mesh") as progress:
        volume = fuse(
            depth.depth,
            _weights(depth.provenance),
            _images(depth),
            depth.intrinsics,
            depth.world_from_cam,
            TsdfSettings(voxel=voxel),
            lambda fraction: progress("fusing depth", 0.8 * fraction),
        )
        mesh = surface(
            volume, lambda fraction: progress("finding the surface", 0.8 + 0.2 * fraction)
        )
    if depth.images is None:
        mesh = _colored_by_cloud(mesh, scene)
    with atomic_path(path) as temporary:
        write_mesh(mesh, temporary)
    unit = "m" if scene.is_metric else "scene units"
    size = f"{len(mesh.vertices)} vertices, {len(mesh)} triangles"
    print(f"mesh      {path}: {size}, voxels of {volume.voxel:.3g} {unit}")
    if volume.voxel > volume.wanted:
        limit = TsdfSettings().memory / 1e9
        print(
            f"          voxels of {volume.wanted:.3g} {unit} would not have fitted into"
            f" {limit:.1f} GB"
        )
    return {
        "mesh": str(path),
        "vertices": len(mesh.vertices),
        "triangles": len(mesh),
        "voxel": volume.voxel,
    }


def _depth_of(scene: Scene, source: Path) -> KeyframeDepth:
    if scene.depth is None:
        why = "" if scene.is_verified else f"; it is not verified: {scene.verdict.reason}"
        raise InputError(
            f"{source} has no depth of its keyframes to make a mesh of{why}; map the place again:"
            " depth is refined and stored where landmarks verify the map"
        )
    return scene.depth


def _weights(provenance: Tensor) -> Tensor:
    """Weights (S, h, w) of pixels by how their depth is known (S, h, w)."""
    import torch

    from vggt3_ros.geometry.provenance import Provenance

    table = torch.zeros(256)
    for name, weight in _WEIGHTS.items():
        table[Provenance[name]] = weight
    return table[provenance.long()]


def _images(depth: KeyframeDepth) -> Tensor:
    """Images (S, 3, h, w), grey where none are stored."""
    if depth.images is not None:
        return depth.images
    count, height, width = depth.depth.shape
    return depth.depth.new_full((1, 1, 1, 1), 128).expand(count, 3, height, width)


def _colored_by_cloud(mesh: Mesh, scene: Scene) -> Mesh:
    """The mesh in the colours of the scene's points that are nearest to its vertices; as it is
    without points.
    """
    from dataclasses import replace

    colors = nearest_colors(scene.points, mesh.vertices.numpy())
    return mesh if colors is None else replace(mesh, colors=colors)


def nearest_colors(cloud: PointCloud, positions: np.ndarray) -> Tensor | None:
    """Colours (N, 3) uint8 of the points that are nearest to positions (N, 3); None without
    points.
    """
    from scipy.spatial import cKDTree

    if not len(cloud):
        return None
    return cloud.colors[cKDTree(cloud.points.numpy()).query(positions)[1]]
