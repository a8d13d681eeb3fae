"""Networks that are measured: random weights on the device, executed as a user has them, or in one
way alone.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.fingerprint import FingerprintCache
from vggt3_ros.model.kernels import TorchOperations
from vggt3_ros.model.network import Vggt3


def build(bench: Bench, config: ModelConfig) -> Vggt3:
    """A network as it is loaded on a GPU, with weights in bf16 where bf16 multiplies them; nothing
    that makes it fast is on.
    """
    network = build_in_fp32(bench, config)
    network.fingerprint_cache = _OfNoFile(())
    network.round_weights()
    return network


def build_in_fp32(bench: Bench, config: ModelConfig) -> Vggt3:
    """A network in bf16 whose weights are fp32, which autocast rounds anew at every use."""
    bench.free()
    torch.manual_seed(0)
    with bench.device:
        return Vggt3(config, "bf16").eval().requires_grad_(False)


class _OfNoFile(FingerprintCache):
    """Random weights need not be hashed, which takes long."""

    def find(self, checksum: str) -> str | None:
        """The checksum itself serves."""
        return checksum


def execute(bench: Bench, network: Vggt3, execution: Execution) -> None:
    """Let the network execute so. On a CPU, twins in torch stand for kernels, and nothing is
    compiled or recorded. Raises RuntimeError saying why the device does not do it.
    """
    if bench.device.type != "cuda":
        network.execute(Execution())
        network.use_operations(TorchOperations() if execution.kernels else None)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        network.execute(execution)
    if network.execution != execution:
        raise RuntimeError(str(told[-1].message) if told else f"it executes {network.execution}")


def forget_compiled(bench: Bench) -> None:
    """Compile anew from now on: what was compiled for other networks counts towards a limit."""
    if bench.device.type == "cuda":
        import torch._dynamo

        torch._dynamo.reset()


def execute_as_chosen(bench: Bench, network: Vggt3) -> None:
    """As `execute`, in the way that a user gets; a row says why where the device does not do it."""
    execution = Execution.parse("auto", bench.device, network.config)
    try:
        execute(bench, network, execution)
    except RuntimeError as error:
        text = f"NOT OK: {network.execution} instead of {execution}: {error}"
        bench.record("execution", text, ok=False, error=str(error))


def random_images(bench: Bench, frames: int) -> Tensor:
    """Images (S, 3, H, W) on the device."""
    return torch.rand(frames, 3, *bench.sizes.image_hw, device=bench.device)
