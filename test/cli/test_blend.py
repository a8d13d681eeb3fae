"""`vggt3 blend`: what it says of the file it writes, and how it refuses."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from vggt3_ros.cli.blend import layer_numbers
from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.training.initialise import convert

from ..conftest import make_network, small_config


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A converted network and its softmax parent."""
    folder = tmp_path_factory.mktemp("pair")
    parent = make_network("softmax")
    files = folder / "fast.safetensors", folder / "softmax.safetensors"
    save_weights(convert(parent, small_config("ttt")), files[0])
    save_weights(parent, files[1])
    return files


def options(pair: tuple[Path, Path], layers: str = "3") -> list[object]:
    return ["--ttt", pair[0], "--softmax", pair[1], "--layers", layers]


def test_a_blend_is_written_and_described(vggt3, pair, tmp_path, images) -> None:
    out = tmp_path / "hybrid.safetensors"
    figures = tmp_path / "blend.json"
    done = vggt3("blend", *options(pair, "0,2-3"), "--anchors", 4, "--out", out, "--json", figures)
    assert done.code == 0, done
    assert "0, 2, 3: anchored, 24 tensors of" in done.out
    assert "in both files: to the bit" in done.out
    data = json.loads(figures.read_text())
    config = load_network(out).config
    assert data["config"] == config.to_dict()
    assert config.global_kinds == ("anchored", "ttt", "anchored", "anchored")
    assert config.anchors.count == 4
    assert data["layers"] == [0, 2, 3] and data["kind"] == "anchored"
    assert data["tensors"]["softmax"] == 24 and data["tensors"]["rounded"] == 0
    assert data["bytes"] == out.stat().st_size
    mapped = vggt3("map", images, "--model", out, "--out", tmp_path / "scene")
    assert mapped.code == 0, mapped


def test_refusals(vggt3, pair, tmp_path) -> None:
    out = tmp_path / "hybrid.safetensors"

    def refused(*arguments: object, layers: str = "3") -> object:
        return vggt3("blend", *options(pair, layers), "--out", out, *arguments)

    assert refused(layers="20-23").failed_with("no layers [20, 21, 22, 23]", "0 to 3")
    assert refused("--kind", "ttt+anchored").failed_with("has to be trained")
    assert refused("--out", tmp_path / "missing" / "x.safetensors").failed_with(
        "--out", "no folder"
    )
    assert refused("--out", tmp_path / "hybrid.pt").failed_with("written as .safetensors")
    assert refused("--ttt", pair[1]).failed_with("of kind softmax", "expected ttt, then softmax")
    assert refused("--softmax", tmp_path / "none").failed_with("no weights at")
    assert refused("--json", out).failed_with("--json", "would overwrite", code=2)
    assert refused("--json", pair[0]).failed_with("--json", "would overwrite", code=2)
    for arguments in (["--kind", "ttt"], ["--anchors", "0"], ["--patch-stride", "-1"]):
        assert refused(*arguments).code == 2
    assert not out.exists()


def test_layers_are_numbers_and_ranges() -> None:
    assert layer_numbers("20-23") == (20, 21, 22, 23)
    assert layer_numbers("20-22, 1,0,1,21") == (0, 1, 20, 21, 22)
    for text in ("", "3-1", "a", "1,", "-1", "1-", "1.5", "99999"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a list of layers"):
            layer_numbers(text)
