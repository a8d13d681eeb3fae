"""On a GPU: fp32 equals the CPU, bf16 stays near it, and the full-size network maps and queries."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3

from ..conftest import make_network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 3e-2)])
def test_gpu_agrees_with_cpu(precision, tolerance) -> None:
    images = torch.rand(6, 3, 56, 70, generator=torch.Generator().manual_seed(1))
    network = make_network()
    truth, memory = network.map(images[:4])
    answer = network.query(images[4:], memory)
    network = make_network().cuda()
    network.precision = precision
    mapped, memory = network.map(images[:4])
    located = network.query(images[4:], memory)
    for name in ("pose_encoding", "depth", "pointmap"):
        assert relative(getattr(mapped, name), getattr(truth, name)) < tolerance
        assert relative(getattr(located, name), getattr(answer, name)) < tolerance


def test_full_size_maps_and_queries_in_bf16() -> None:
    with torch.device("cuda"):
        torch.manual_seed(0)
        network = Vggt3(ModelConfig.full("ttt"), precision="bf16").eval().requires_grad_(False)
    images = torch.rand(5, 3, 392, 518)
    prediction, memory = network.map(images[:4])
    located = network.query(images[4:], memory)
    assert bool(prediction.depth.isfinite().all() and located.pose_encoding.isfinite().all())
    assert sum(part.numel() for weights in memory.fast_weights for part in weights) == 18_874_368
