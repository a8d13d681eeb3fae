"""Scenes that earlier programs saved: test/data/scenes/version_2, version_3 and version_4 were
written by those programs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

STORED = Path(__file__).parents[1] / "data" / "scenes"
POINTS = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 2.0], [0.5, -0.25, 4.0], [1.0, 1.0, 1.0]])
Edit = Callable[[dict], object]


def check_parts(scene: Scene) -> None:
    """What the stored scenes have in common."""
    assert (
        scene.keyframes.names == ("a.png", "b.png", "c.png")
        and scene.keyframes.stamps_ns[2] == 3_000_000_000
    )
    assert scene.keyframes.cam_from_world[:, 0, 3].tolist() == [0, 0.25, 0.3333333432674408]
    assert scene.memory["global.0.w0"].flatten().tolist() == list(range(24))
    assert scene.is_metric and scene.metric_residual_m == 0.125 and scene.map_from_scene.scale == 2
    assert (
        scene.verdict.verified
        and scene.verdict.poses == "held as given"
        and len(scene.landmarks["positions"]) == 12
    )
    sizes_wh = ((640, 480), (640, 480), (480, 640))
    assert scene.calibration == MapCalibration(sizes_wh, focal_factor=1.0625, depth_scale=2.5)
    assert scene.verification["residual_px"] == 0.5 and scene.verification["reason"].startswith(
        "12 landmarks"
    )
    assert len(Landmarks.from_tensors(scene.landmarks)) == 12


@pytest.mark.parametrize("version", ["version_3", "version_4"])
def test_a_scene_of_version_3_or_4_is_read(version: str) -> None:
    scene = load_scene(STORED / version)
    check_parts(scene)
    assert torch.equal(scene.points.points, POINTS) and scene.bounds == ((0, -0.25, 1), (1, 1, 4))
    assert scene.made_by == "/robot1/vggt3/mapper in domain 7"
    assert (
        scene.has_refined_points
        and scene.depth is not None
        and scene.report["depth"]["size_wh"] == [5, 4]
    )


def test_a_scene_of_version_2_is_read_with_its_points_in_the_map() -> None:
    """Its points were in scene units and axes."""
    scene = load_scene(STORED / "version_2")
    check_parts(scene)
    assert torch.equal(scene.points.points, scene.map_from_scene.points(POINTS))
    assert scene.bounds == ((-2, 0, 7), (0.5, 2, 13))
    assert not scene.has_refined_points and scene.depth is None and scene.made_by == ""


@pytest.mark.parametrize("version", ["version_2", "version_3", "version_4"])
def test_an_old_scene_saved_again_is_the_same_in_the_present_version(
    version: str, tmp_path: Path
) -> None:
    old = load_scene(STORED / version)
    new = load_scene(save_scene(old, tmp_path / "map"))
    check_parts(new)
    assert torch.equal(new.points.points, old.points.points) and new.bounds == old.bounds
    assert new.report == old.report and new.has_refined_points == old.has_refined_points
    assert json.loads((tmp_path / "map" / "scene.json").read_text())["version"] == 5


def test_an_old_scene_without_landmarks_is_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(STORED / "version_3", tmp_path / "map"))

    def edit(entries: dict) -> None:
        del entries["files"]["landmarks.safetensors"]
        entries["verification"] = {"verified": False, "reason": "no landmarks were asked for"}
        entries["files"].pop("depth.safetensors")

    rewrite(folder, edit)
    scene = load_scene(folder)
    assert scene.verdict == MapVerdict(
        False, "no landmarks were asked for", "adjusted to the images"
    )
    assert scene.calibration is None and not scene.is_verified


@pytest.mark.parametrize(
    ("version", "edit", "why"),
    [
        (
            "version_3",
            lambda e: e["verification"].pop("focal_factor"),
            "verification lacks the entry 'focal_factor'",
        ),
        (
            "version_3",
            lambda e: e["verification"].update(focal_factor="1"),
            "'focal_factor' must be a number",
        ),
        (
            "version_3",
            lambda e: e["verification"].update(focal_factor=0),
            "focal_factor must be from 0.01 to 100, got 0",
        ),
        (
            "version_2",
            lambda e: e["verification"].pop("image_sizes_wh"),
            "lacks the entry 'image_sizes_wh'",
        ),
        (
            "version_2",
            lambda e: e["verification"].update(agreement=[]),
            "agreement must be an object",
        ),
        (
            "version_2",
            lambda e: e["verification"]["agreement"].update(depth_scale=-1),
            "depth_scale must be from",
        ),
        (
            "version_2",
            lambda e: e.update(points_frame="map"),
            'has the unknown entry "points_frame"',
        ),
        ("version_3", lambda e: e.update(version=2), 'has the unknown entry "points_frame"'),
        ("version_2", lambda e: e.update(version=3), "lacks the entry 'points_frame'"),
        ("version_3", lambda e: e.update(version=4), "lacks the entry 'checksum'"),
        ("version_3", lambda e: e.update(checksum="0" * 64), "was edited by hand or damaged"),
    ],
)
def test_what_is_wrong_in_an_old_scene_is_refused(
    version: str, edit: Edit, why: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(STORED / version, tmp_path / "map"))
    rewrite(folder, edit)
    with pytest.raises(SceneError, match=why):
        load_scene(folder)


def rewrite(folder: Path, edit: Edit) -> None:
    """Change the entries of a scene.json that has no checksum."""
    entries = json.loads((folder / "scene.json").read_text())
    edit(entries)
    (folder / "scene.json").write_text(json.dumps(entries))
