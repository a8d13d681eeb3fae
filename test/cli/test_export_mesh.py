"""`vggt3 export --mesh` writes what the stored depth shows; `vggt3 info` says that there is
depth.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.storage import load_scene, save_scene

from ..dense.views import COLOR, wall

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")


def depth_of_wall() -> KeyframeDepth:
    """A wall 2 m before five keyframes: agreed but for the lower half, which is far but for its
    last rows.
    """
    views = wall(2.0, count=5)
    provenance = torch.full(views.depth.shape, int(Provenance.AGREED), dtype=torch.uint8)
    provenance[:, 32:] = Provenance.FAR
    provenance[:, 56:] = Provenance.NEAR
    return KeyframeDepth(
        views.depth, provenance, views.intrinsics, views.world_from_cam, views.images
    )


@pytest.fixture
def with_depth(scene: Path) -> Path:
    """The scene of five images, in metres, with depth of a wall."""
    changed = replace(
        load_scene(scene), depth=depth_of_wall(), is_metric=True, metric_source="pose_priors"
    )
    save_scene(changed, scene)
    return scene


def test_the_surface_of_pixels_that_are_trusted_is_written(
    vggt3, with_depth: Path, tmp_path: Path
) -> None:
    out, figures = tmp_path / "wall.ply", tmp_path / "figures.json"
    outcome = vggt3("export", with_depth, "--mesh", out, "--json", figures)
    mesh = trimesh.load(out, process=False)
    data = json.loads(figures.read_text())
    assert (
        outcome.code == 0
        and f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles" in outcome.out
    )
    assert "voxels of 0.05 m" in outcome.out and (data["vertices"], data["voxel"]) == (
        len(mesh.vertices),
        0.05,
    )
    assert np.abs(mesh.vertices[:, 2] - 2).max() < 1e-3
    down = mesh.vertices[:, 1]
    assert ((down < 0.1) | (down > 1.1)).all() and (down > 1.1).any()  # nothing far
    assert (mesh.visual.vertex_colors[:, :3] == COLOR).all()
    assert mesh.face_normals[:, 2].max() < -0.9  # the front is where the cameras are


def test_glb_and_model_are_written_together(vggt3, with_depth: Path, tmp_path: Path) -> None:
    out = tmp_path / "wall.glb"
    assert vggt3("export", with_depth, "--mesh", out, "--voxel", "0.1").code == 0
    (mesh,) = trimesh.load_scene(out, process=False).geometry.values()
    assert np.abs(mesh.vertices[:, 1] - 2).max() < 1e-3  # up of glTF
    assert list(tmp_path.glob(".wall*")) == []
    outcome = vggt3("export", with_depth, "--mesh", out, "--colmap", tmp_path / "model")
    assert outcome.failed_with("has no landmarks to export")


def test_without_images_the_mesh_has_the_colours_of_the_points(
    vggt3, with_depth: Path, tmp_path: Path
) -> None:
    scene = load_scene(with_depth)
    assert scene.depth is not None
    save_scene(replace(scene, depth=replace(scene.depth, images=None)), with_depth)
    assert vggt3("export", with_depth, "--mesh", tmp_path / "wall.ply").code == 0
    colors = trimesh.load(tmp_path / "wall.ply", process=False).visual.vertex_colors[:, :3]
    assert {tuple(color) for color in colors} <= {
        tuple(color) for color in scene.points.colors.numpy()
    }


def test_a_scene_without_depth_is_refused_with_what_to_do(
    vggt3, scene: Path, tmp_path: Path
) -> None:
    outcome = vggt3("export", scene, "--mesh", tmp_path / "wall.ply")
    reason = load_scene(scene).verdict.reason
    assert outcome.failed_with(
        "has no depth of its keyframes to make a mesh of", reason, "map the place again"
    )
    assert list(tmp_path.glob("*.ply")) == []


def test_what_cannot_be_written_is_refused_and_nothing_is_changed(
    vggt3, with_depth: Path, tmp_path: Path
) -> None:
    before = (with_depth / "points.ply").read_bytes()
    for arguments, code, why in (
        (["--mesh", tmp_path / "wall.obj"], 1, "must end in .ply or .glb"),
        (["--mesh", with_depth / "points.ply"], 2, "would overwrite"),
        (["--mesh", tmp_path / "none" / "wall.ply"], 1, "there is no folder"),
        (
            ["--mesh", tmp_path / "wall.ply", "--voxel", "0.001"],
            1,
            "too small for pixels of 0.05: give 0.013 or more",
        ),
        (["--voxel", "0.1", "--colmap", tmp_path / "model"], 2, "give --mesh FILE"),
        ([], 2, "nothing to export: give --colmap DIR, --nerfstudio DIR, --mesh FILE"),
    ):
        assert vggt3("export", with_depth, *arguments).failed_with(why, code=code)
    assert (with_depth / "points.ply").read_bytes() == before and list(
        tmp_path.glob("*wall*")
    ) == []


def test_without_scikit_image_the_error_says_how_to_get_it(
    vggt3, with_depth: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    outcome = vggt3("export", with_depth, "--mesh", tmp_path / "wall.ply")
    assert outcome.failed_with(
        "scikit-image, which is not installed: pip install 'vggt3_ros[mesh]'"
    )


def test_info_tells_the_size_of_the_depth_and_how_it_is_known(
    vggt3, with_depth: Path, tmp_path: Path, monkeypatch
) -> None:
    # packing everything only to count it would take seconds
    monkeypatch.setattr(KeyframeDepth, "arrays", None)
    outcome = vggt3("info", with_depth, "--json", tmp_path / "info.json")
    assert "depth      0.2 MB: depth and images of 80 x 64 pixels" in outcome.out
    assert "agreed 50 %, plane 0 %, near 12 %, far 38 %" in outcome.out
    data = json.loads((tmp_path / "info.json").read_text())
    assert data["depth"]["size"] == [64, 80] and data["depth_bytes"] == depth_of_wall().nbytes
    assert data["depth_bytes"] == pytest.approx(
        (with_depth / "depth.safetensors").stat().st_size, abs=1000
    )
    assert data["depth"]["shares"]["far"] == 0.375
