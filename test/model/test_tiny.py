"""The embedded model is what its card says, and takes part in mapping and localizing."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import vggt3_ros.model.checkpoint
from vggt3_ros.model.checkpoint import load_network

WEIGHTS = Path(vggt3_ros.model.checkpoint.__file__).parents[1] / "weights"
CARD = json.loads((WEIGHTS / "tiny.json").read_text())


def test_the_card_describes_the_file_beside_it() -> None:
    network = load_network("tiny")
    assert CARD["fingerprint"] == network.fingerprint()
    assert CARD["file_bytes"] == (WEIGHTS / "tiny.safetensors").stat().st_size <= 40_000_000
    assert CARD["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert CARD["config"] == network.config.to_dict()


def test_the_card_has_the_baselines_beside_every_figure() -> None:
    for figures in CARD["evaluation"].values():
        keys = figures["localization"].keys()
        assert (
            keys
            == figures["baselines"]["mean_pose"].keys()
            == figures["baselines"]["nearest_image"].keys()
        )


def test_it_maps_and_localizes_without_anything_to_download() -> None:
    network = load_network("tiny")
    images = torch.rand(3, 3, 72, 96, generator=torch.Generator().manual_seed(0))
    prediction, memory = network.map(images[:2])
    located = network.query(images[2:], memory)
    assert prediction.pointmap is None
    assert located.cameras.points(located.depth).shape == (1, 72, 96, 3)
