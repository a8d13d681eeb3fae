"""A network on another device than the CPU maps and queries there: nothing is misplaced, and the
host need not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.model import aggregator, dpt_head
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.model.rope import RopeTable, uv_embedding

from ..conftest import small_config
from ..host_waits import places
from ..pretended_device import CPU, DEVICE, PretendedDevice

KINDS = [
    ("ttt", "dinov2", True),
    ("ttt", "conv", False),
    ("softmax", "dinov2", False),
    ("softmax", "conv", True),
    ("anchored,ttt+anchored,frame,ttt", "conv", False),
]


@pytest.fixture(autouse=True)
def same_kernels():
    """Fused attention of the CPU rounds otherwise than the plain products that the pretended device
    takes.
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield


def make(
    attn: str = "ttt", stem: str = "dinov2", points: bool = True, device: torch.device = CPU
) -> Vggt3:
    """A network of a few thousand weights for images of 64 x 80 (conv) or 56 x 70 pixels
    (dinov2).
    """
    sizes = {"patch_size": 16, "image_size": 80} if stem == "conv" else {}
    config = replace(small_config(attn), patch_embedding=stem, point_head=points, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Vggt3(config)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network.to(device).eval().requires_grad_(False)


def photos(network: Vggt3, count: int, seed: int = 1) -> Tensor:
    patch = network.config.patch_size
    return torch.rand(count, 3, 4 * patch, 5 * patch, generator=torch.Generator().manual_seed(seed))


def assert_same(there: Prediction, here: Prediction) -> None:
    for name in ("pose_encoding", "depth", "depth_confidence", "pointmap", "pointmap_confidence"):
        a, b = getattr(there, name), getattr(here, name)
        assert (a is None) == (b is None)
        assert a is None or (a.device == DEVICE and torch.equal(a.cpu(), b)), name


@pytest.mark.parametrize(("attn", "stem", "points"), KINDS)
def test_a_network_answers_on_a_device_as_it_does_on_the_cpu(attn, stem, points) -> None:
    network = make(attn, stem, points)
    frames, queries = photos(network, 5), photos(network, 2, seed=2)
    truth, memory = network.map(frames, chunk=2)
    located = network.query(queries, memory, chunk=2)
    with PretendedDevice() as device:
        network = make(attn, stem, points, DEVICE)
        frames, queries = frames.to(DEVICE), queries.to(DEVICE)
        with device.noting() as waits:
            prediction, memory_there = network.map(frames, chunk=2)
            answer = network.query(queries, memory_there, chunk=2)
        assert waits == []  # the host never waits for the device
        assert_same(prediction, truth)
        assert_same(answer, located)
        pairs = zip(memory_there.tensors().values(), memory.tensors().values(), strict=True)
        assert all(torch.equal(a.cpu(), b) for a, b in pairs)


def test_images_and_memory_may_come_from_the_cpu_each_with_a_copy() -> None:
    network = make()
    frames, queries = photos(network, 3), photos(network, 2, seed=2)
    truth, memory = network.map(frames, chunk=2)
    assert memory is not None
    located = network.query(queries, memory)
    with PretendedDevice() as device:
        network = make(device=DEVICE)
        with device.noting() as waits:
            prediction, _ = network.map(frames, chunk=2)
        # one for every chunk of images
        assert places(waits) == {"model/streaming.py:embed"} and len(waits) == 2
        assert_same(prediction, truth)
        with device.noting() as waits:
            answer = network.query(queries.to(DEVICE), memory)
        assert places(waits) == {"model/prediction.py:to", "outside the package:"}
        assert len(waits) == len(memory.tensors()) + 1
        assert_same(answer, located)
        assert_same(network.query(queries, memory), located)


def _on_cpu(module: torch.nn.Module, name: str) -> None:
    """A buffer or parameter that `Vggt3.to` would have forgotten."""
    tensor = getattr(module, name).cpu()
    delattr(module, name)
    setattr(module, name, tensor)


MISPLACED: dict[str, Callable[[Vggt3, pytest.MonkeyPatch], None]] = {
    "mean of images": lambda network, patch: _on_cpu(network.aggregator, "mean"),
    "register token": lambda network, patch: _on_cpu(network.aggregator, "register_token"),
    "initial fast weights": lambda network, patch: _on_cpu(
        network.aggregator.global_block(2).attn, "w1"
    ),
    "rates": lambda network, patch: _on_cpu(network.aggregator.global_block(1).attn.lr_fc, "bias"),
    "scale of a layer": lambda network, patch: _on_cpu(
        network.aggregator.frame_blocks[3].ls2, "gamma"
    ),
    "camera head": lambda network, patch: _on_cpu(network.camera_head.pose_branch.fc2, "weight"),
    "depth head": lambda network, patch: _on_cpu(network.depth_head.projects[1], "bias"),
    "rotary table": lambda network, patch: patch.setattr(
        aggregator, "rope_table", lambda *a: RopeTable(*(t.cpu() for t in ROPE(*a)))
    ),
    "position code": lambda network, patch: patch.setattr(
        dpt_head, "uv_embedding", lambda *a: uv_embedding(*a[:4], CPU)
    ),
}
ROPE = aggregator.rope_table


@pytest.mark.parametrize("misplace", MISPLACED.values(), ids=MISPLACED)
def test_a_misplaced_tensor_is_found(misplace, monkeypatch) -> None:
    with PretendedDevice():
        network = make(device=DEVICE)
        misplace(network, monkeypatch)
        with pytest.raises(RuntimeError, match=r"same device.*model/\w+\.py"):
            network.map(photos(network, 2))


def test_a_memory_left_on_the_cpu_is_found(monkeypatch) -> None:
    with PretendedDevice():
        network = make(device=DEVICE)
        _, memory = network.map(photos(network, 2))
        assert memory is not None
        stored = memory.to(CPU)
        monkeypatch.setattr(SceneMemory, "to", lambda self, device: self)
        with pytest.raises(RuntimeError, match="same device"):
            network.query(photos(network, 1), stored)
