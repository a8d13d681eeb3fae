"""`vggt3 edit` writes another scene and leaves the one it is given as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.scene.storage import load_scene, save_scene

from ..pipeline.dotted import dotted_scene
from .conftest import main

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def kept(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with the images of its keyframes. Not to be changed by tests."""
    folder = tmp_path_factory.mktemp("kept") / "monday"
    arguments = ["map", images, "--out", folder, "--model", checkpoint, "--keep-images"]
    assert main([str(each) for each in arguments]) == 0
    return folder


@pytest.fixture
def dotted(tmp_path: Path) -> Path:
    return save_scene(dotted_scene(), tmp_path / "dotted")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_memory_is_fitted_to_the_keyframes_that_are_left(
    vggt3: Run, kept: Path, checkpoint: Path, tmp_path: Path
) -> None:
    before = digests(kept)
    new, report = tmp_path / "new", tmp_path / "edit.json"
    names = load_scene(kept).keyframes.names
    options = ("--drop-keyframes", names[1], names[3], "--model", checkpoint, "--json", report)
    outcome = vggt3("edit", kept, "--out", new, *options)
    assert outcome.code == 0 and "fitted the network's memory anew, to 3 keyframes" in outcome.out
    assert digests(kept) == before
    old, made = load_scene(kept), load_scene(new)
    assert made.keyframes.names == (names[0], names[2], names[4])
    assert [(parent.scene_id, parent.name) for parent in made.parents] == [(old.scene_id, "monday")]
    network = load_network(str(checkpoint), torch.device("cpu"))
    assert old.images is not None
    _, memory = network.map(old.images[[0, 2, 4]] / 255, steps=2)
    for name, tensor in memory.tensors().items():
        torch.testing.assert_close(made.memory[name], tensor, rtol=1e-4, atol=1e-4)
    said = json.loads(report.read_text())
    assert said["keyframes"] == 3 and said["scene_id"] == made.scene_id
    info = vggt3("info", new)
    assert f"made from  monday ({old.scene_id}), which has the same map frame" in info.out


@pytest.mark.parametrize("has_images", [True, False])
def test_a_memory_that_stays_is_told(
    vggt3: Run, kept: Path, tmp_path: Path, has_images: bool
) -> None:
    source = tmp_path / "source"
    scene = load_scene(kept)
    save_scene(scene if has_images else replace(scene, images=None), source)
    options = ["--keep-memory"] if has_images else []
    drop = ("--drop-keyframes", scene.keyframes.names[1])
    outcome = vggt3("edit", source, "--out", tmp_path / "new", *drop, *options)
    why = "as asked for; `vggt3 refit`" if has_images else "no images to fit it to; maps of --keep"
    assert outcome.code == 0 and "stays     the network's memory, which was fitted" in outcome.out
    assert why in outcome.out
    made = load_scene(tmp_path / "new")
    for name, tensor in scene.memory.items():
        assert torch.equal(made.memory[name], tensor)


def test_several_edits_are_made_in_one_go_and_the_result_localizes_as_before(
    vggt3: Run, dotted: Path, tmp_path: Path
) -> None:
    before = digests(dotted)
    new = tmp_path / "new"
    options = ("--crop", -2, -2, -2, 2, 2, 0.8, "--scale", "a.jpg", "right/c", 8)
    options += ("--drop-keyframes", "right/c", "--keep-memory")
    outcome = vggt3("edit", dotted, "--out", new, *options)
    assert outcome.code == 0 and outcome.out.count("done      ") == 3, outcome
    assert digests(dotted) == before
    old, made = load_scene(dotted), load_scene(new)
    # distances name keyframes of the scene that was edited, dropped ones, too
    ends = old.map_from_keyframes[[0, 3], :3, 3]
    factor = 8 / float((ends[0] - ends[1]).norm())
    torch.testing.assert_close(
        made.map_from_keyframes[:, :3, 3], factor * old.map_from_keyframes[:3, :3, 3]
    )
    # and so does the box
    assert float(made.points.points[:, 2].max()) == pytest.approx(0.8 * factor, abs=0.1)
    assert made.is_verified and made.metric_source == "measured distances"


def test_a_network_of_another_scene_is_refused(vggt3: Run, kept: Path, tmp_path: Path) -> None:
    drop = ("--drop-keyframes", load_scene(kept).keyframes.names[1])
    outcome = vggt3("edit", kept, "--out", tmp_path / "new", *drop)  # with tiny
    assert outcome.failed_with("was made by network", "use the network that made it")
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_edited_is_refused_and_nothing_is_written(
    vggt3: Run, dotted: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_text("precious")
    before = digests(dotted)
    refused = (
        (new, [], 2, "nothing to edit: give --drop-keyframes"),
        (dotted, ["--rotate-to-floor"], 2, "is the scene that is edited"),
        (dotted / "new", ["--rotate-to-floor"], 2, "is the scene that is edited, or in it"),
        (photos, ["--rotate-to-floor"], 1, "is not a scene"),
        (new, ["--rotate-to-floor"], 1, "no floor is found"),
        (new, ["--crop", 5, 5, 5, 6, 6, 6], 1, "holds no point of the map"),
        (new, ["--crop", 1, 1, 1, 0, 0, 0], 1, "lowest and a highest corner"),
        (new, ["--drop-keyframes", "nobody"], 1, "unknown keyframes ['nobody']"),
        (new, ["--scale", "a.jpg", "c", "far"], 2, "the metres between them: 'far'"),
        (new, ["--scale", "a.jpg", "c", "-1"], 2, "the metres between them: '-1'"),
        (new, ["--scale", "a.jpg", "a.jpg", "1"], 1, "stand at one place"),
    )
    for out, options, code, why in refused:
        assert vggt3("edit", dotted, "--out", out, *options).failed_with(why, code=code)
    assert digests(dotted) == before and (photos / "holiday.jpg").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotted", "photos"]


def test_a_full_disk_leaves_the_earlier_scene(
    vggt3: Run, dotted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    options = ("--scale", "a.jpg", "c", 1)
    assert vggt3("edit", dotted, "--out", new, *options).code == 0
    before = digests(new)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vggt3_ros.scene.storage.write_ply", full)
    assert vggt3("edit", dotted, "--out", new, *options).failed_with("No space left")
    assert digests(new) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotted", "new"]


def test_an_edited_scene_is_edited_again(vggt3: Run, dotted: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert vggt3("edit", dotted, "--out", first, "--drop-keyframes", "é").code == 0
    assert vggt3("edit", first, "--out", second, "--scale", "a.jpg", "c", 1).code == 0
    (parent,) = load_scene(second).parents
    assert (parent.scene_id, parent.name) == (load_scene(first).scene_id, "first")
