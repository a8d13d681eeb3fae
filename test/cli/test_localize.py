"""`vggt3 localize` and `vggt3 info`: what they say of a scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


def test_localize_prints_a_line_per_image(
    vggt3: Run, scene: Path, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "localize", scene, images, "--model", checkpoint, "--json", tmp_path / "poses.json"
    )
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{i:06d}.png" for i in range(5)]
    data = json.loads((tmp_path / "poses.json").read_text())
    assert data["unit"] == "scene units"
    for line, row in zip(lines, data["images"], strict=True):
        assert " position {:.3f} {:.3f} {:.3f} scene units ".format(*row["position"]) in line
        assert " quaternion {:.4f} {:.4f} {:.4f} {:.4f} ".format(*row["quaternion"]) in line
        assert np.linalg.norm(row["quaternion"]) == pytest.approx(1, abs=1e-6)
        assert row["status"] == "UNVERIFIED" and 0 <= row["confidence"] <= 1 and row["seconds"] > 0


def test_black_image_is_lost_with_its_reason(
    vggt3: Run, scene: Path, checkpoint: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(tmp_path / "black.png")
    outcome = vggt3("localize", scene, tmp_path / "black.png", "--model", checkpoint)
    assert outcome.code == 0
    assert outcome.out == "black.png  LOST  the image is black\n"


def test_unreadable_image_is_skipped_and_alone_a_failure(
    vggt3: Run, scene: Path, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    both = vggt3(
        "localize", scene, tmp_path / "text.png", images / "000001.png", "--model", checkpoint
    )
    assert (
        both.code == 0
        and both.out.startswith("000001.png  UNVERIFIED")
        and "skipped text.png" in both.err
    )
    alone = vggt3("localize", scene, tmp_path / "text.png", "--model", checkpoint)
    assert alone.failed_with("none of the 1 images can be used")


def test_keyframes_propose_where_the_scene_has_their_images(
    vggt3: Run, scene: Path, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    network = ("--model", checkpoint)
    kept = tmp_path / "kept"
    assert (
        vggt3("map", images, "--out", kept, "--no-landmarks", "--keep-images", *network).code == 0
    )
    local = ("--propose", "local", *network, "--json", tmp_path / "poses.json")
    assert vggt3("localize", kept, images, *local).code == 0
    rows = json.loads((tmp_path / "poses.json").read_text())["images"]
    assert {row["proposed_by"] for row in rows} == {"local"} and len(rows) == 5
    assert all("proposed from 2 keyframes like it" in row["reason"] for row in rows)
    assert "images     0.1 MB: the keyframes as the network saw them" in vggt3("info", kept).out

    refused = vggt3("localize", scene, images, *local)
    assert refused.failed_with("has no images of its keyframes", "--keep-images")
    either = vggt3("localize", scene, images / "000001.png", "--propose", "both", *network)
    assert either.code == 0 and "only the memory proposes poses" in either.err
    assert "images   " not in vggt3("info", scene).out


def test_info_says_what_the_scene_holds(vggt3: Run, scene: Path, tmp_path: Path) -> None:
    outcome = vggt3("info", scene, "--json", tmp_path / "info.json")
    assert outcome.code == 0
    data = json.loads((tmp_path / "info.json").read_text())
    assert (data["keyframes"], data["input_size"], data["metric"]) == (5, [56, 70], False)
    assert data["memory_bytes"] > 0
    for text in (
        data["scene_id"],
        data["model_fingerprint"],
        "70 x 56",
        f"points     {data['points']}",
        "not metric",
    ):
        assert text in outcome.out
