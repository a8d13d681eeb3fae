from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.cli.export_colmap import check_colmap_folder
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.colmap import read_colmap
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

from ..landmarks.synthetic import synthetic_landmarks


@pytest.fixture
def landmarks() -> Landmarks:
    return synthetic_landmarks()


@pytest.fixture
def verified(scene: Path, landmarks: Landmarks) -> Path:
    """The scene of five images, with landmarks, and dense points at every tenth of them in a colour
    of its own.
    """
    scale = Sim3(2.0, torch.eye(3).double(), torch.tensor([1.0, 0, 0]).double())
    dense = torch.from_numpy(landmarks.positions[::10])
    colors = torch.arange(len(dense), dtype=torch.uint8)[:, None].expand(-1, 3) * 40
    cloud = PointCloud(dense, colors, torch.ones(len(dense)))
    calibration = MapCalibration(((640, 480),) * 5, focal_factor=1.0, depth_scale=2.0)
    changed = replace(
        load_scene(scene),
        landmarks=landmarks.tensors(),
        verdict=MapVerdict(True, ""),
        calibration=calibration,
        map_from_scene=scale,
        points=cloud,
        is_metric=True,
        metric_source="pose_priors",
    )
    save_scene(changed, scene)
    return scene


def test_scene_is_exported_and_read_back(
    vggt3, verified: Path, landmarks: Landmarks, tmp_path: Path
) -> None:
    out, figures = tmp_path / "new" / "model", tmp_path / "figures.json"
    outcome = vggt3("export", verified, "--colmap", out, "--json", figures)
    assert outcome.code == 0 and "5 images, 60 points, in metres" in outcome.out
    assert json.loads(figures.read_text())["observations"] == len(landmarks.observed)
    model = read_colmap(out)
    assert model.names == load_scene(verified).keyframes.names
    assert np.allclose(model.world_from_cam, landmarks.world_from_cam) and model.sizes_wh[0] == (
        640,
        480,
    )
    assert sorted(file.name for file in out.iterdir()) == [
        "cameras.bin",
        "images.bin",
        "points3D.bin",
    ]
    assert not list(out.parent.glob(".*"))


def test_points_take_the_colour_of_the_dense_points(vggt3, verified: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    assert vggt3("export", verified, "--colmap", tmp_path / "model").code == 0
    model = pycolmap.Reconstruction(tmp_path / "model")
    assert [model.point3D(10 * i + 1).color.tolist() for i in range(6)] == [
        [40 * i] * 3 for i in range(6)
    ]


def test_export_needs_neither_pycolmap_nor_network(
    vggt3, verified: Path, tmp_path: Path, monkeypatch
) -> None:
    for missing in ("pycolmap", "vggt3_ros.model.network"):
        monkeypatch.setitem(sys.modules, missing, None)
    assert vggt3("export", verified, "--colmap", tmp_path / "model").code == 0


def test_earlier_model_is_replaced_and_other_folders_are_not(
    vggt3, verified: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / "points3D.txt").write_text("old")
    assert vggt3("export", verified, "--colmap", out).code == 0
    assert not (out / "points3D.txt").exists()
    (out / "precious.txt").write_text("mine")
    assert vggt3("export", verified, "--colmap", out).failed_with(
        "precious.txt", "no file of a model"
    )
    assert (out / "precious.txt").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("x")
    assert vggt3("export", verified, "--colmap", file).failed_with("is a file")
    assert vggt3("export", verified, "--colmap", verified).failed_with("inside the scene")
    assert vggt3("export", verified, "--colmap", verified / "model").failed_with("inside the scene")


def test_failed_export_leaves_the_earlier_model(
    vggt3, verified: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "model"
    assert vggt3("export", verified, "--colmap", out).code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vggt3_ros.landmarks.colmap.write_points", full)
    assert vggt3("export", verified, "--colmap", out).failed_with("No space left")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_scene_without_landmarks_is_refused_with_the_reason(
    vggt3, scene: Path, tmp_path: Path
) -> None:
    verdict = MapVerdict(False, "the map falls into 3 parts")
    save_scene(replace(load_scene(scene), landmarks={}, verdict=verdict), scene)
    outcome = vggt3("export", scene, "--colmap", tmp_path / "model")
    assert outcome.failed_with("has no landmarks to export (the map falls into 3 parts)")
    assert not (tmp_path / "model").exists()


def test_target_may_be_new_or_empty(tmp_path: Path) -> None:
    check_colmap_folder(tmp_path / "new", tmp_path / "scene")
    (tmp_path / "empty").mkdir()
    check_colmap_folder(tmp_path / "empty", tmp_path / "scene")
