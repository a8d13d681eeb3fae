"""On a GPU: fp32 equals the CPU, bf16 stays near it, however the network is executed and wherever
frames are kept; and the full-size network maps and queries.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vggt3_ros.model import kernels
from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import Precision
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.model.streaming import Resident

from ..conftest import small_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

EXECUTIONS = ("plain", "kernels", "graphs", "kernels,graphs")  # compiling takes minutes
TOLERANCES = {"fp32": 1e-3, "bf16": 6e-2}  # bf16 of a CPU is off by half of it
MAPPED = 4
QUERIES = 3  # one as it is, one as a graph is recorded, one that is replayed
Outputs = dict[str, Tensor]


def network_in_fp32() -> Vggt3:
    """On the CPU, with heads of a width that kernels take."""
    torch.manual_seed(1)
    return Vggt3(replace(small_config(), embed_dim=64)).eval().requires_grad_(False)


def network_on_gpu(precision: Precision, text: str) -> tuple[Vggt3, Execution]:
    """The same, and how it is executed."""
    network = network_in_fp32().cuda()
    network.precision = precision
    if "kernels" in text and not kernels.run_on(network.device, network.config):
        pytest.skip("the kernels are not for this GPU, or Triton is missing")
    execution = Execution.parse(text, network.device, network.config, precision)
    network.execute(execution)
    return network, execution


def outputs(network: Vggt3, resident: Resident = "all") -> Outputs:
    """Of two scenes that are mapped, and of images that are localized one by one, now in the one
    and then in the other.
    """
    generator = torch.Generator().manual_seed(1)
    scenes = torch.rand(2, MAPPED + QUERIES, 3, 56, 70, generator=generator)
    found: Outputs = {}

    def keep(name: str, prediction: Prediction) -> None:
        for output in ("pose_encoding", "depth", "depth_confidence", "pointmap"):
            found[f"{name}.{output}"] = getattr(prediction, output).cpu()

    memories = []
    for number, images in enumerate(scenes):
        prediction, memory = network.map(images[:MAPPED], chunk=1, resident=resident)
        assert memory is not None
        keep(f"map {number}", prediction)
        found |= {f"{number}.{name}": part.cpu() for name, part in memory.tensors().items()}
        memories.append(memory)
    for number in (0, 1, 0):
        for query, image in enumerate(scenes[number, MAPPED:]):
            keep(f"query {number}.{query}", network.query(image[None], memories[number]))
    return found


def off(found: Outputs, truth: Outputs) -> dict[str, float]:
    """Relative error by name."""
    assert found.keys() == truth.keys()
    return {n: float((found[n] - t).norm() / t.norm()) for n, t in truth.items()}


@pytest.fixture(scope="module")
def truth() -> Outputs:
    return outputs(network_in_fp32())


@pytest.mark.parametrize("resident", ["all", "stream", "none"])
@pytest.mark.parametrize("text", EXECUTIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gpu_agrees_with_cpu(precision, text, resident, truth) -> None:
    network, execution = network_on_gpu(precision, text)
    errors = off(outputs(network, resident), truth)
    assert max(errors.values()) < TOLERANCES[precision], errors
    assert network.execution == execution  # nothing was given up


def test_compiled_blocks_agree_with_cpu(truth) -> None:
    network = network_in_fp32().cuda()
    network.execute(Execution(compiled=True))
    errors = off(outputs(network), truth)
    assert max(errors.values()) < TOLERANCES["fp32"], errors


@pytest.mark.parametrize("text", EXECUTIONS)
def test_what_is_left_in_host_memory_changes_no_bit(text) -> None:
    network, _ = network_on_gpu("bf16", text)
    assert max(off(outputs(network, "none"), outputs(network, "all")).values()) == 0


def test_rounded_weights_change_no_bit_of_bf16() -> None:
    network, _ = network_on_gpu("bf16", "plain")
    exact = outputs(network)
    network.round_weights()
    assert max(off(outputs(network), exact).values()) == 0


def test_a_network_as_it_is_loaded_agrees_with_cpu(truth, tmp_path: Path) -> None:
    save_weights(network_in_fp32(), tmp_path / "network.safetensors")
    network = load_network(tmp_path, "cuda", "bf16", "auto")
    execution = Execution.parse("auto", network.device, network.config)
    assert network.execution == execution
    assert network.aggregator.frame_blocks[0].mlp.fc1.weight.dtype == torch.bfloat16
    errors = off(outputs(network), truth)
    assert max(errors.values()) < TOLERANCES["bf16"], errors
    assert network.execution == execution


def test_full_size_maps_and_queries_in_bf16() -> None:
    with torch.device("cuda"):
        torch.manual_seed(0)
        network = Vggt3(ModelConfig.full("ttt"), precision="bf16").eval().requires_grad_(False)
    images = torch.rand(5, 3, 392, 518)
    prediction, memory = network.map(images[:4])
    located = network.query(images[4:], memory)
    assert bool(prediction.depth.isfinite().all() and located.pose_encoding.isfinite().all())
    fitted = [t for name, t in memory.tensors().items() if name.startswith("global.")]
    assert sum(part.numel() for part in fitted) == 18_874_368
