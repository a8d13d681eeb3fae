"""`vggt3 refit`: a scene's memory anew from the images that it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.pipeline.depth_scale import anchor_depths
from vggt3_ros.scene.storage import load_scene

from .conftest import main

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def kept(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with the images of its keyframes."""
    folder = tmp_path_factory.mktemp("kept") / "scene"
    arguments = ["map", images, "--out", folder, "--model", checkpoint, "--keep-images"]
    assert main([str(each) for each in arguments]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_memory_is_that_of_further_steps_and_the_map_is_the_same(
    vggt3: Run, kept: Path, checkpoint: Path, tmp_path: Path
) -> None:
    before = contents(kept)
    report = tmp_path / "refit.json"
    outcome = vggt3(
        "refit",
        kept,
        "--out",
        tmp_path / "new",
        "--model",
        checkpoint,
        "--steps",
        3,
        "--json",
        report,
    )
    assert outcome.code == 0 and "3 TTT steps (2 before)" in outcome.out, outcome
    assert contents(kept) == before
    old, new = load_scene(kept), load_scene(tmp_path / "new")
    assert old.images is not None and old.scene_id != new.scene_id
    network = load_network(str(checkpoint), torch.device("cpu"))
    _, memory = network.map(old.images / 255, steps=3)
    for name, tensor in memory.tensors().items():
        torch.testing.assert_close(new.memory[name], tensor, rtol=1e-4, atol=1e-4)
    assert torch.equal(new.points.points, old.points.points)
    apart = new.map_from_keyframes[:, :3, 3] - old.map_from_keyframes[:, :3, 3]
    spread = old.map_from_keyframes[:, :3, 3].std(0).norm()
    assert apart.norm(dim=1).median() < 2 * spread
    said = json.loads(report.read_text())
    assert said["ttt_steps"] == {"before": 2, "after": 3} and said["views"]["fitted"] == 5


def test_a_scene_of_the_same_settings_is_the_same(
    vggt3: Run, kept: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ("refit", kept, "--out", tmp_path / "new", "--model", checkpoint)
    outcome = vggt3(*arguments, "--budget", "600s")
    assert outcome.code == 0 and "vggt3: for 600 s: 5 frames, 5 of them" in outcome.err, outcome
    old, new = load_scene(kept), load_scene(tmp_path / "new")
    for name, tensor in old.memory.items():
        torch.testing.assert_close(new.memory[name], tensor, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new.map_from_keyframes, old.map_from_keyframes, rtol=1e-3, atol=1e-3)
    assert new.report["budget"]["given"] == {"seconds": 600.0, "memory_bytes": None}
    (entry,) = (tmp_path / "cache" / "vggt3_ros" / "costs").iterdir()
    costs = json.loads(entry.read_text())
    entry.write_text(json.dumps({**costs, "query": 1e5}))
    assert vggt3(*arguments, "--budget", "1s").code == 0  # all are fitted
    entry.write_text(json.dumps({**costs, "fit": 1e5}))
    assert vggt3(*arguments, "--budget", "1s").failed_with("mapping 5 of 5 frames takes about")


@pytest.fixture(scope="module")
def verified(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified scene of a drive through a room, by `tiny`, with images, depth and landmarks."""
    folder = tmp_path_factory.mktemp("verified") / "scene"
    known = ["--poses", room / "poses.txt", "--intrinsics", room / "intrinsics.json"]
    arguments = ["map", room / "map", "--out", folder, *known, "--keep-images"]
    assert main([str(each) for each in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def refitted(verified: Path) -> Path:
    """The same in a third step; the verified scene is as it was."""
    before = contents(verified)
    folder = verified.with_name("refitted")
    assert main(["refit", str(verified), "--steps", "3", "--out", str(folder)]) == 0
    assert contents(verified) == before
    return folder


def test_what_images_say_of_a_verified_map_stays_and_what_the_network_says_fits_it(
    vggt3: Run, verified: Path, refitted: Path, tmp_path: Path
) -> None:
    before, after = contents(verified), contents(refitted)
    assert {name for name in before if before[name] != after[name]} == {
        "scene.json",
        "memory.safetensors",
        "keyframes.json",
    }
    old, new = load_scene(verified), load_scene(refitted)
    assert new.is_verified and old.images is not None and old.depth is not None
    prediction, memory = load_network("tiny").map(old.images / 255, steps=3)
    for name, tensor in memory.tensors().items():
        torch.testing.assert_close(new.memory[name], tensor, rtol=1e-4, atol=1e-4)
    poses = prediction.cameras.cam_from_world
    torch.testing.assert_close(new.keyframes.cam_from_world, poses, rtol=1e-4, atol=1e-4)
    assert torch.equal(new.map_from_keyframes, old.map_from_keyframes)
    brought = new.map_from_scene.poses(se3_inverse(new.keyframes.cam_from_world))
    apart = (brought - new.map_from_keyframes)[:, :3, 3].square().sum(1).mean().sqrt()
    agreement = new.report["agreement"]
    assert agreement["position_rms_before"] == pytest.approx(float(apart))
    landmarks = Landmarks.from_tensors(new.landmarks)
    scales = anchor_depths(prediction.depth, landmarks, new.keyframes.intrinsics)
    assert new.require_calibration().depth_scale == pytest.approx(scales.scene_scale, rel=1e-3)
    assert agreement["depth_error_before"] == pytest.approx(scales.error_before, rel=1e-3)
    assert agreement.keys() == old.report["agreement"].keys()
    assert vggt3("refit", refitted, "--steps", 2, "--out", tmp_path / "back").code == 0
    again = load_scene(tmp_path / "back")
    for name, tensor in old.memory.items():
        torch.testing.assert_close(again.memory[name], tensor, rtol=1e-4, atol=1e-4)
    assert again.map_from_scene.scale == pytest.approx(old.map_from_scene.scale, rel=1e-3)
    assert again.report["agreement"] == pytest.approx(old.report["agreement"], rel=1e-3)


def test_images_are_localized_in_a_refitted_map_as_before(
    vggt3: Run, verified: Path, refitted: Path, room: Path, tmp_path: Path
) -> None:
    report = tmp_path / "found.json"

    def found(scene: Path, *options: str) -> list[dict[str, Any]]:
        known = ("--intrinsics", room / "intrinsics.json", "--json", report)
        assert vggt3("localize", scene, room / "queries", *known, *options).code == 0
        return json.loads(report.read_text())["images"]

    def positions(rows: list[dict[str, Any]]) -> torch.Tensor:
        return torch.tensor([row["position"] for row in rows])

    true = found(verified)
    for options in ((), ("--propose", "local")):
        now = found(refitted, *options)
        assert [row["status"] for row in now] == ["VERIFIED"] * 4
        torch.testing.assert_close(positions(now), positions(true), rtol=0, atol=0.005)
    by_memory = found(refitted, "--refine", "none")
    off = (positions(by_memory) - positions(true)).norm(dim=1)
    assert float(off.mean()) < 1.0  # in the map's frame and metres, as well as `tiny` can


def test_what_cannot_be_refitted_is_refused(
    vggt3: Run, scene: Path, kept: Path, checkpoint: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    arguments = ("--out", new, "--model", checkpoint)
    assert vggt3("refit", scene, *arguments).failed_with("no images", "--keep-images")
    same = vggt3("refit", kept, "--out", kept, "--model", checkpoint)
    assert same.failed_with("name another folder", code=2)
    assert vggt3("refit", kept, "--out", new).failed_with("use the network that made it")
    assert not new.exists()
