"""The command line on a drive through a room: maps that are tied to the world, and poses that are
verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vggt3_ros.cli.main import main
from vggt3_ros.geometry.sim3 import fit_poses
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.worlds.sequence import RoomSequence

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def mapped(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene of the room with poses; its figures lie beside it. Not to be changed by tests."""
    folder = tmp_path_factory.mktemp("mapped") / "scene"
    assert main(["map", *map(str, arguments(room, folder, "--poses", room / "poses.txt"))]) == 0
    return folder


def arguments(
    room: Path, out: Path, *extra: object, calibrated: bool = True, frames: int = 8
) -> list[object]:
    known = ["--intrinsics", room / "intrinsics.json"] if calibrated else []
    images = sorted((room / "map").iterdir())[:frames] if frames < 8 else [room / "map"]
    return [*images, "--out", out, "--json", out.with_suffix(".json"), *known, *extra]


def farthest(scene: Scene, drive: RoomSequence, align: bool = False) -> float:
    """Largest position error of the keyframes in metres; `align`: after a similarity."""
    found, true = scene.map_from_keyframes, drive.world_from_cam[drive.map_indices]
    if align:
        found = fit_poses(found, true).poses(found)
    return float((found - true)[:, :3, 3].norm(dim=1).max())


def length(poses: torch.Tensor) -> float:
    return float(poses[:, :3, 3].diff(dim=0).norm(dim=1).sum())


def test_map_keeps_landmarks_and_says_so(
    vggt3: Run, mapped: Path, drive: RoomSequence, tmp_path: Path
) -> None:
    scene = load_scene(mapped)
    assert (
        (mapped / "landmarks.safetensors").exists()
        and scene.is_verified
        and farthest(scene, drive) < 0.01
    )
    data = json.loads(mapped.with_suffix(".json").read_text())
    assert (data["metric"], data["metric_source"], data["up_source"]) == (
        True,
        "pose_priors",
        "pose_priors",
    )
    assert (
        data["verification"]["verified"]
        and data["landmark_bytes"] > 10_000
        and data["prior_outliers"] == []
    )
    outcome = vggt3("info", mapped, "--json", tmp_path / "info.json")
    reason = data["verification"]["reason"]
    assert (
        outcome.code == 0
        and f"landmarks  {data['landmark_bytes'] / 1e6:.1f} MB: {reason}" in outcome.out
    )
    info = json.loads((tmp_path / "info.json").read_text())
    assert (
        info["verification"] == data["verification"]
        and info["landmark_bytes"] == data["landmark_bytes"]
    )


def test_map_refines_depth_and_keeps_it(
    vggt3: Run, room: Path, mapped: Path, tmp_path: Path
) -> None:
    depth = load_scene(mapped).depth
    assert depth is not None and depth.images is None and depth.depth.shape == (8, 168, 224)
    options = ("--poses", room / "poses.txt", "--dense", "fine", "--keep-images")
    outcome = vggt3("map", *arguments(room, tmp_path / "fine", *options, frames=4))
    assert outcome.code == 0 and "depth     refined at 320 x 240: " in outcome.out
    fine = load_scene(tmp_path / "fine").depth
    assert fine is not None and fine.images is not None and fine.depth.shape == (4, 240, 320)
    assert vggt3("export", mapped, "--mesh", tmp_path / "room.glb").code == 0
    without = ("--poses", room / "poses.txt", "--dense", "off")
    assert vggt3("map", *arguments(room, tmp_path / "off", *without, frames=4)).code == 0
    assert load_scene(tmp_path / "off").depth is None
    refused = vggt3("export", tmp_path / "off", "--mesh", tmp_path / "none.glb")
    assert refused.failed_with("has no depth of its keyframes")


def test_localize_verifies_and_gives_uncertainty(
    vggt3: Run, room: Path, mapped: Path, drive: RoomSequence, tmp_path: Path
) -> None:
    calibration = ("--intrinsics", room / "intrinsics.json")
    images = (room / "queries", room / "other.png")
    outcome = vggt3("localize", mapped, *images, *calibration, "--json", tmp_path / "found.json")
    assert outcome.code == 0, outcome
    *lines, other = outcome.out.splitlines()
    *rows, lost = json.loads((tmp_path / "found.json").read_text())["images"]
    verified = [row["status"] == "VERIFIED" for row in rows]
    assert sum(verified) >= 3, "at most one of the views, far off the path, lacks support"
    for query, line, row in zip(map(int, drive.query_indices), lines, rows, strict=True):
        if row["status"] == "LOST":
            assert line == f"{query:06d}.png  LOST  {row['reason']}"
            continue
        assert line.startswith(f"{query:06d}.png  VERIFIED  position ")
        assert line.endswith(f"+- {row['position_sigma']:.3f} m, {row['inliers']} landmarks")
        error = torch.tensor(row["position"]).double() - drive.world_from_cam[query, :3, 3]
        assert float(error.norm()) < 0.02 and row["status"] == "VERIFIED" and row["metric"]
        covariance = torch.tensor(row["covariance"])
        assert covariance.shape == (6, 6) and float(covariance.diagonal().min()) > 0
    assert (
        lost["status"] == "LOST"
        and lost["position"] is None
        and lost["covariance"] is None
        and lost["reason"]
    )
    assert other == f"other.png  LOST  {lost['reason']}"


def test_without_refinement_poses_stay_unverified(vggt3: Run, room: Path, mapped: Path) -> None:
    outcome = vggt3("localize", mapped, room / "queries" / "000008.png", "--refine", "none")
    assert outcome.code == 0 and outcome.out.startswith("000008.png  UNVERIFIED  position "), (
        outcome
    )
    assert "confidence" in outcome.out and "+-" not in outcome.out


def test_without_landmarks_nothing_is_verified(vggt3: Run, room: Path, tmp_path: Path) -> None:
    outcome = vggt3("map", *arguments(room, tmp_path / "scene", "--no-landmarks"))
    assert (
        outcome.code == 0
        and "landmarks none, poses stay unverified: no landmarks were asked for" in outcome.out
    )
    assert not (tmp_path / "scene" / "landmarks.safetensors").exists()
    found = vggt3("localize", tmp_path / "scene", room / "queries" / "000008.png")
    assert found.out.startswith("000008.png  UNVERIFIED")
    assert "poses cannot be verified: no landmarks were asked for" in found.err
    refused = vggt3("export", tmp_path / "scene", "--colmap", tmp_path / "model")
    assert refused.failed_with("has no landmarks to export")


def test_depth_gives_the_scale(vggt3: Run, room: Path, drive: RoomSequence, tmp_path: Path) -> None:
    outcome = vggt3(
        "map", *arguments(room, tmp_path / "scene", "--depth", room / "depth", "--dense", "off")
    )
    assert outcome.code == 0 and "scale     metric (depth)" in outcome.out, outcome
    scene = load_scene(tmp_path / "scene")
    true = length(drive.world_from_cam[drive.map_indices])
    assert farthest(scene, drive, align=True) < 0.03
    assert length(scene.map_from_keyframes) == pytest.approx(true, rel=0.1)


def test_camera_height_without_a_floor_says_why_there_is_no_scale(
    vggt3: Run, room: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "map", *arguments(room, tmp_path / "scene", "--camera-height", 1.4, "--dense", "off")
    )
    assert outcome.code == 0, outcome
    scene = load_scene(tmp_path / "scene")
    assert not scene.is_metric and "no floor stands out" in scene.metric_source
    assert f"not metric ({scene.metric_source})" in outcome.out


def test_colmap_model_gives_poses_and_metres_only_if_it_has_them(
    vggt3: Run, room: Path, mapped: Path, drive: RoomSequence, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    assert vggt3("export", mapped, "--colmap", model).code == 0
    for extra in ((), ("--colmap-metric",)):
        given = arguments(
            room,
            tmp_path / "scene",
            "--from-colmap",
            model,
            "--dense",
            "off",
            *extra,
            calibrated=False,
        )
        outcome = vggt3("map", *given)
        scene = load_scene(tmp_path / "scene")
        assert outcome.code == 0 and scene.is_verified, outcome
        assert scene.is_metric == bool(extra) and farthest(scene, drive, align=not extra) < 0.02
        assert (
            "metric, residual" if extra else "not metric (none: the given poses have no scale"
        ) in outcome.out


def test_colmap_model_of_other_images_is_refused(
    vggt3: Run, room: Path, mapped: Path, tmp_path: Path
) -> None:
    assert vggt3("export", mapped, "--colmap", tmp_path / "model").code == 0
    folder = tmp_path / "renamed"
    folder.mkdir()
    for index in range(2):
        Image.open(room / "map" / f"{index:06d}.png").save(folder / f"photo{index}.png")
    outcome = vggt3("map", folder, "--out", tmp_path / "scene", "--from-colmap", tmp_path / "model")
    assert (
        outcome.failed_with("the model has none of these images")
        and not (tmp_path / "scene").exists()
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--colmap-metric"], "give both"),
        (["--from-colmap", "{room}", "--poses", "{room}/poses.txt"], "leave --poses out"),
        (
            ["--from-colmap", "{room}", "--intrinsics", "{room}/intrinsics.json"],
            "leave --intrinsics out",
        ),
        (["--from-colmap", "{room}", "--depth", "{room}/depth"], "leave --depth out"),
        (["--no-landmarks", "--from-colmap", "{room}"], "--no-landmarks leaves nothing"),
        (["--no-landmarks", "--sfm"], "--no-landmarks leaves nothing"),
        (["--drift", "2%,0.1deg"], "--drift is about given poses"),
        (["--no-landmarks", "--dense", "fine"], "--dense fine needs the cameras of landmarks"),
        (
            ["--dense", "off", "--dense-seconds", "1"],
            "--dense-seconds limits what --dense off leaves out",
        ),
        (["--camera-height", "0"], "not a number above 0"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(
    options: list[str], complaint: str, vggt3: Run, room: Path, tmp_path: Path
) -> None:
    filled = [option.format(room=room) for option in options]
    try:
        outcome = vggt3("map", room / "map", "--out", tmp_path / "scene", *filled)
    except SystemExit as exit:  # of argparse itself
        assert exit.code == 2 and complaint == "not a number above 0"
    else:
        assert outcome.failed_with(complaint, code=2)
    assert list(tmp_path.iterdir()) == []


def test_missing_depth_folder_and_model_are_named(vggt3: Run, room: Path, tmp_path: Path) -> None:
    for option, where in (("--depth", "nowhere"), ("--from-colmap", "nowhere")):
        outcome = vggt3("map", room / "map", "--out", tmp_path / "scene", option, tmp_path / where)
        assert outcome.failed_with("nowhere")
