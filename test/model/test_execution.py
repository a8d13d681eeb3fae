"""However a network is executed, it answers the same but for rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.model import kernels
from vggt3_ros.model import network as network_module
from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.model.compiling import compile_inference
from vggt3_ros.model.config import TttConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.kernels import TorchOperations
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction

from ..conftest import make_network, small_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SEEDS = range(6)
FAST_WEIGHTS, OUTPUTS = 0.03, 0.002  # relative error of bf16


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 56, 70, generator=torch.Generator().manual_seed(seed))


def outputs(network: Vggt3, seed: int, **settings: Any) -> dict[str, Tensor]:
    """By name, what a network says of a random scene, fast weights of every layer included."""

    def named(prediction: Prediction) -> dict[str, Tensor]:
        names = ("pose_encoding", "depth", "depth_confidence", "pointmap")
        return {name: getattr(prediction, name) for name in names}

    prediction, memory = network.map(images(5, seed), chunk=2, **settings)
    found = named(prediction)
    answer = network.query(images(2, seed + 100), memory, chunk=1)
    found |= {f"query.{name}": value for name, value in named(answer).items()}
    return found | memory.tensors()


def off(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Relative error by name."""
    assert found.keys() == truth.keys()
    return {n: float((found[n] - t).norm() / t.norm()) for n, t in truth.items()}


@pytest.mark.parametrize("attn", ["ttt", "softmax"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fused_operations_answer_as_layers_do(attn, seed) -> None:
    network = make_network(attn, seed)
    truth = outputs(network, seed)
    network.use_operations(TorchOperations())
    errors = off(outputs(network, seed), truth)
    assert max(errors.values()) < 1e-4, errors  # Newton-Schulz amplifies rounding
    network.use_operations(None)
    assert max(off(outputs(network, seed), truth).values()) == 0


@pytest.mark.parametrize("operations", [None, TorchOperations()], ids=["layers", "operations"])
@pytest.mark.parametrize("resident", ["all", "stream", "none"])
@pytest.mark.parametrize("seed", SEEDS)
def test_bf16_stays_near_fp32_in_every_layer_and_output(operations, resident, seed) -> None:
    network = make_network("ttt", seed)
    truth = outputs(network, seed)
    network.precision = "bf16"
    network.use_operations(operations)
    errors = off(outputs(network, seed, resident=resident), truth)
    fast = {name: error for name, error in errors.items() if name.startswith("global.")}
    assert max(fast.values()) < FAST_WEIGHTS, fast
    rest = {name: error for name, error in errors.items() if name not in fast}
    assert max(rest.values()) < OUTPUTS, rest


@pytest.mark.parametrize("attn", ["ttt", "softmax"])
@pytest.mark.parametrize("heads", [None, 1])
def test_rounded_weights_change_no_bit_of_bf16(attn, heads) -> None:
    config = small_config(attn)
    ttt = None if config.ttt is None else TttConfig(num_heads=heads)
    network = Vggt3(replace(config, ttt=ttt), "bf16").eval().requires_grad_(False)
    truth, fingerprint = outputs(network, 1), network.fingerprint()
    network.round_weights()
    assert max(off(outputs(network, 1), truth).values()) == 0
    assert network.fingerprint() == fingerprint
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert kinds["aggregator.frame_blocks.0.mlp.fc1.weight"] == torch.bfloat16
    assert kinds["aggregator.frame_blocks.0.norm1.weight"] == torch.float32
    assert kinds["camera_head.trunk.0.mlp.fc1.weight"] == torch.float32
    network.aggregator.frame_blocks[0].mlp.fc1.weight[0, 0] += 1
    assert network.fingerprint() != fingerprint


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What was compiled, by a compiler that leaves graphs as they are."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    compiling = partial(compile_inference, backend=backend)
    monkeypatch.setattr(network_module, "compile_inference", compiling)
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


@pytest.mark.parametrize("attn", ["ttt", "softmax"])
def test_layers_of_a_kind_are_compiled_once_a_shape(graphs, attn) -> None:
    network = make_network(attn)
    truth, _ = network.map(images(4, 1), chunk=2)
    network.execute(Execution(compiled=True))
    compiled, _ = network.map(images(4, 1), chunk=2)
    torch.testing.assert_close(compiled.depth, truth.depth)
    assert len(graphs) == 5  # the backbone's, within and across frames, a head of each kind
    network.map(images(4, 2), chunk=2)
    assert len(graphs) == 5
    network.execute(Execution())
    network.map(images(3, 1), chunk=3)
    assert len(graphs) == 5 and network.execution == Execution()


def test_a_query_that_cannot_be_recorded_is_answered_all_the_same(small_network) -> None:
    _, memory = small_network.map(images(3, 1))
    truth = small_network.query(images(1, 2), memory)
    small_network.execute(Execution(graphs=True))  # on a device that has none
    assert torch.equal(small_network.query(images(1, 2), memory).depth, truth.depth)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph"):  # the second time
        answer = small_network.query(images(1, 2), memory)
    assert torch.equal(answer.depth, truth.depth)
    assert small_network.execution == Execution()


def test_executions_that_are_asked_for(monkeypatch) -> None:
    config = replace(small_config(), embed_dim=64)
    assert Execution.parse("auto", CPU) == Execution.parse("plain", GPU) == Execution()
    assert Execution.parse("compiled", CPU, config) == Execution(compiled=True)
    monkeypatch.setattr(kernels, "run_on", lambda device, config: True)
    assert Execution.parse("auto", GPU, config) == Execution(kernels=True, graphs=True)
    assert Execution.parse("auto", GPU, config, "fp32") == Execution(graphs=True)
    assert Execution.parse("kernels", GPU, config, "fp32") == Execution(kernels=True)
    assert str(Execution.parse("graphs,kernels", GPU)) == "kernels,graphs"
    assert str(Execution()) == "plain"
    monkeypatch.setattr(kernels, "run_on", lambda device, config: False)
    assert Execution.parse("auto", GPU, config) == Execution(graphs=True)
    with pytest.raises(InputError, match="'kernels', but the kernels need Triton"):
        Execution.parse("kernels", GPU, config)


@pytest.mark.parametrize("text", ["", "fast", "kernels,", "graphs,graphs", "auto,kernels"])
def test_unknown_executions_are_refused(text) -> None:
    with pytest.raises(InputError, match=f"execution is '{text}', expected 'auto'"):
        Execution.parse(text, GPU)


def test_what_needs_a_gpu_is_refused_without_one(tmp_path) -> None:
    save_weights(make_network(), tmp_path / "network.safetensors")
    with pytest.raises(InputError, match="need a CUDA device, and the network is to run on cpu"):
        load_network(tmp_path, "cpu", execution="compiled,graphs")
    network = load_network(tmp_path, "cpu", "bf16", execution="auto")
    assert network.execution == Execution()
