"""What `vggt3 export` hands over is read by other programs, and shows the same places to them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggt3_ros.geometry.pointcloud import read_ply
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.scene.verification import MapVerdict

from ..pipeline.dotted import LANDMARK, SECOND, dot_in, dotted_scene

Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # of glTF, from Z up


@pytest.fixture
def dotted(tmp_path: Path) -> Path:
    return save_scene(dotted_scene(), tmp_path / "dotted")


def where_it_is(scene: Path) -> np.ndarray:
    """The landmark (3,) that the images show."""
    return Landmarks.from_tensors(load_scene(scene).landmarks).positions[LANDMARK]


def seen_by_nerfstudio(camera: dict, frame: dict, point: np.ndarray) -> np.ndarray:
    """Pixel (2,) of a point as its documentation says: OpenGL's axes, measured from the corner."""
    x, y, z, _ = np.linalg.inv(frame["transform_matrix"]) @ np.append(point, 1)
    assert z < 0  # before the camera
    return np.array(
        [camera["cx"] + camera["fl_x"] * x / -z, camera["cy"] - camera["fl_y"] * y / -z]
    )


def test_nerfstudio_sees_landmarks_where_the_images_show_them(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    out, figures = tmp_path / "nerf", tmp_path / "figures.json"
    outcome = vggt3("export", dotted, "--nerfstudio", out, "--json", figures)
    assert outcome.code == 0 and "4 images of 168 x 126 pixels, 60 points, in metres" in outcome.out
    assert "1 of 5 keyframes left out: no landmarks tie them" in outcome.out
    assert json.loads(figures.read_text())["nerfstudio"]["images"] == 4
    data = json.loads((out / "transforms.json").read_text())
    assert len(data["frames"]) == len(list((out / "images").iterdir())) == 4
    assert data["camera_model"] == "OPENCV" and data["k1"] == data["p2"] == 0
    for frame in data["frames"]:
        pixel = seen_by_nerfstudio({**data, **frame}, frame, where_it_is(dotted))
        assert Image.open(out / frame["file_path"]).size == (data["w"], data["h"])
        assert np.abs(pixel - dot_in(out / frame["file_path"])).max() < 0.15
    cloud = read_ply(out / data["ply_file_path"])
    landmarks = load_scene(dotted).landmarks
    assert torch.equal(cloud.points, landmarks["positions"])
    assert cloud.colors[LANDMARK].tolist() == [LANDMARK] * 3


def test_the_sparse_points_are_read_by_another_program(vggt3, dotted: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    assert vggt3("export", dotted, "--nerfstudio", tmp_path / "nerf").code == 0
    cloud = trimesh.load(tmp_path / "nerf" / "sparse_pc.ply")
    assert np.allclose(cloud.vertices[LANDMARK], where_it_is(dotted))
    assert cloud.colors[LANDMARK, :3].tolist() == [LANDMARK] * 3


def test_cameras_that_differ_are_told_one_by_one(vggt3, dotted: Path, tmp_path: Path) -> None:
    scene = load_scene(dotted)
    scene.keyframes.intrinsics[1, 0, 0] += 3
    save_scene(scene, dotted)
    assert vggt3("export", dotted, "--nerfstudio", tmp_path / "nerf").code == 0
    data = json.loads((tmp_path / "nerf" / "transforms.json").read_text())
    first, second = (frame["fl_x"] for frame in data["frames"][:2])
    assert "fl_x" not in data and second == pytest.approx(first + 3 * 1.25)


def test_a_map_without_landmarks_is_handed_over_with_its_points(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    bare = replace(load_scene(dotted), landmarks={}, verdict=MapVerdict(False, "none"))
    save_scene(bare, dotted)
    outcome = vggt3("export", dotted, "--nerfstudio", tmp_path / "nerf")
    assert outcome.code == 0 and "5 images" in outcome.out and "left out" not in outcome.out
    assert len(read_ply(tmp_path / "nerf" / "sparse_pc.ply")) == len(bare.points)


def test_colmap_sees_landmarks_where_the_images_show_them(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "model"
    outcome = vggt3("export", dotted, "--colmap", out, "--with-images")
    assert (
        outcome.code == 0 and "4 images, " in outcome.out and "1 of 5 keyframes left" in outcome.out
    )
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    files = sorted(path.name for path in (out / "images").iterdir())
    assert sorted(image.name for image in model.images.values()) == files
    assert len(files) == 4 and model.num_points3D() > 50
    for image in model.images.values():
        pixel = image.project_point(where_it_is(dotted).astype(np.float64))
        assert np.abs(pixel - dot_in(out / "images" / image.name)).max() < 0.15
    assert model.compute_mean_reprojection_error() < 0.5


def test_a_model_with_images_replaces_one_and_nothing_else(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    assert vggt3("export", dotted, "--colmap", out).code == 0
    assert vggt3("export", dotted, "--colmap", out, "--with-images").code == 0
    assert not (out / "cameras.bin").exists()
    assert vggt3("export", dotted, "--colmap", out).code == 0
    assert not (out / "images").exists()
    (out / "images").mkdir()
    (out / "images" / "holiday.png").write_text("mine")
    assert vggt3("export", dotted, "--colmap", out).failed_with("images/holiday.png", "no file of")
    assert vggt3("export", dotted, "--nerfstudio", out).failed_with("cameras.bin")
    assert (out / "images" / "holiday.png").read_text() == "mine"


def test_tum_is_read_by_evo(vggt3, dotted: Path, tmp_path: Path) -> None:
    file_interface = pytest.importorskip(
        "evo.tools.file_interface", reason="evo is not installed: pip install '.[evo]'"
    )
    out = tmp_path / "way.txt"
    outcome = vggt3("export", dotted, "--tum", out)
    assert outcome.code == 0 and "4 keyframes, in metres" in outcome.out
    way = file_interface.read_tum_trajectory_file(str(out))
    valid, details = way.check()
    assert valid, details
    expected = load_scene(dotted).map_from_keyframes[:4].numpy()
    assert np.allclose(np.stack(way.poses_se3), expected, atol=1e-7)
    assert np.allclose(np.diff(way.timestamps), 0.1)


def test_the_trajectory_is_in_order_of_time_to_the_last_digit(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    scene = load_scene(dotted)
    stamps = (1_700_000_000 * SECOND + 7, 5 * SECOND + 123_456_789, -SECOND // 2, 10**7, 0)
    save_scene(replace(scene, keyframes=replace(scene.keyframes, stamps_ns=stamps)), dotted)
    out = tmp_path / "way.txt"
    assert vggt3("export", dotted, "--tum", out).code == 0
    header, *rows = out.read_text().splitlines()
    assert header == "# timestamp tx ty tz qx qy qz qw"
    assert [row.split()[0] for row in rows] == [
        "-0.500000000",
        "0.010000000",
        "5.123456789",
        "1700000000.000000007",
    ]
    x = [float(row.split()[1]) for row in rows]
    expected = scene.map_from_keyframes[[2, 3, 1, 0], 0, 3].tolist()
    assert x == pytest.approx(expected, abs=1e-8)


def test_keyframes_without_times_are_numbered(vggt3, scene: Path, tmp_path: Path) -> None:
    outcome = vggt3("export", scene, "--tum", tmp_path / "way.txt")
    assert outcome.code == 0 and "seconds are their numbers in the scene" in outcome.out
    rows = (tmp_path / "way.txt").read_text().splitlines()[1:]
    assert [row.split()[0] for row in rows] == [f"{row}.000000000" for row in range(5)]


def test_glb_shows_points_keyframes_and_the_way(vggt3, dotted: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    out = tmp_path / "map.glb"
    outcome = vggt3("export", dotted, "--glb", out)
    assert outcome.code == 0 and "60 points, 4 keyframes, Y up, in metres" in outcome.out
    read = trimesh.load_scene(out)
    points, cameras, way = (read.geometry[name] for name in ("points", "keyframes", "way"))
    scene = load_scene(dotted)
    assert np.allclose(points.vertices @ Y_UP, scene.points.points, atol=1e-6)
    assert np.allclose(way.vertices @ Y_UP, scene.map_from_keyframes[:4, :3, 3], atol=1e-6)
    steps = scene.map_from_keyframes[:4, :3, 3].diff(dim=0).norm(dim=1)
    assert way.length == pytest.approx(float(steps.sum()), abs=1e-5)
    corners = cameras.vertices.reshape(4, 5, 3) @ Y_UP
    gaze = corners[:, 1:].mean(1) - corners[:, 0]
    forward = scene.map_from_keyframes[:4, :3, 2].numpy()
    cosine = (gaze * forward).sum(1) / np.linalg.norm(gaze, axis=1)
    assert (cosine > 0.99).all()


def test_without_images_it_is_said_how_to_get_them(vggt3, dotted: Path, tmp_path: Path) -> None:
    save_scene(replace(load_scene(dotted), images=None), dotted)
    out = tmp_path / "out"
    for options in (["--nerfstudio", out], ["--colmap", out, "--with-images"]):
        outcome = vggt3("export", dotted, *options)
        assert outcome.failed_with("has no images of its keyframes", "--keep-images")
        assert not out.exists()


def test_what_cannot_be_is_refused_before_anything_is_written(
    vggt3, dotted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused = (
        (["--with-images", "--tum", out], 2, "give --colmap DIR"),
        (["--glb", tmp_path / "map.obj"], 1, "must end in .glb"),
        (["--glb", tmp_path / "no" / "map.glb"], 1, "there is no folder"),
        (["--nerfstudio", dotted / "nerf"], 1, "inside the scene"),
        (["--nerfstudio", out, "--colmap", out], 1, "would be written twice"),
        (["--nerfstudio", tmp_path, "--tum", tmp_path / "way"], 1, "holds 'dotted"),
        (["--tum", dotted / "scene.json"], 2, "would overwrite"),
    )
    for options, code, why in refused:
        assert vggt3("export", dotted, *options).failed_with(why, code=code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotted"]


def test_a_failed_export_leaves_the_earlier_one(
    vggt3, dotted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "nerf"
    assert vggt3("export", dotted, "--nerfstudio", out).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vggt3_ros.cli.export_nerfstudio.write_json", full)
    assert vggt3("export", dotted, "--nerfstudio", out).failed_with("No space left")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotted", "nerf"]


def test_handing_over_needs_none_of_the_programs_that_read_it(
    vggt3, dotted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in ("pycolmap", "trimesh", "evo", "skimage", "vggt3_ros.model.network"):
        monkeypatch.setitem(sys.modules, missing, None)
    options = ("--nerfstudio", "nerf", "--colmap", "model", "--tum", "way.txt", "--glb", "map.glb")
    places = [each if each.startswith("--") else tmp_path / each for each in options]
    assert vggt3("export", dotted, *places, "--with-images").code == 0
