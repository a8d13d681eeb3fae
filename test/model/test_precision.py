"""In which precision a network runs, where nobody has said."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.model.precision import chosen_precision

from ..conftest import make_network

CPU = torch.device("cpu")
GPU = torch.device("cuda")
TINY = 4_000_000
PUBLISHED = 1_190_000_000


@pytest.mark.parametrize(
    ("choice", "weights", "device", "multiplies", "chosen"),
    [
        ("auto", PUBLISHED, GPU, True, "bf16"),
        ("auto", PUBLISHED, GPU, False, "fp32"),
        ("auto", PUBLISHED, CPU, True, "fp32"),
        ("auto", TINY, GPU, True, "fp32"),
        ("fp32", PUBLISHED, GPU, True, "fp32"),
        ("bf16", TINY, CPU, False, "bf16"),
    ],
)
def test_bf16_is_for_large_networks_on_gpus_that_multiply_it(
    monkeypatch, choice, weights, device, multiplies, chosen
) -> None:
    def supported(including_emulation: bool) -> bool:
        assert not including_emulation
        return multiplies

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert chosen_precision(choice, weights, device) == chosen


def test_a_network_is_loaded_in_the_precision_asked_for(tmp_path) -> None:
    save_weights(make_network(seed=1), tmp_path / "net.safetensors")
    precisions = {
        choice: load_network(tmp_path / "net.safetensors", "cpu", choice).precision
        for choice in ("auto", "fp32", "bf16")
    }
    assert precisions == {"auto": "fp32", "fp32": "fp32", "bf16": "bf16"}
