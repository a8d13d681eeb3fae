"""Fused kernels for the network on a GPU, each with a twin in plain torch.

Triton is optional: it comes with torch for CUDA, and is imported when a device is there that it
compiles for.
"""

from __future__ import annotations

import importlib.util
import warnings

import torch

from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.kernels.operations import Operations, update
from vggt3_ros.model.kernels.torch_operations import TorchOperations
from vggt3_ros.model.rope import rope_table

__all__ = ["Operations", "TorchOperations", "choose", "fits", "update"]

_WIDTHS = (32, 64, 128)  # of a head of fast weights: its sums fill the registers of a program
_ROPE_WIDTHS = (16, 32, 64, 128)
_LEAST_HIDDEN = 64


def fits(config: ModelConfig) -> bool:
    """Whether the kernels can run a network of these sizes.

    Attention's heads must be 16, 32, 64 or 128 wide; those of fast weights 32, 64 or 128, made of
    whole rope heads, a power of two of them; hidden width must be a power of two, at least 64; and
    v alone is convolved, 3x3.
    """
    rope_width = config.embed_dim // config.num_heads
    if rope_width not in _ROPE_WIDTHS:
        return False
    ttt = config.ttt
    if ttt is None:
        return True
    width = config.embed_dim // (ttt.num_heads or config.num_heads)
    hidden = width * ttt.mlp_ratio
    return (
        width in _WIDTHS
        and width >= rope_width
        and hidden >= _LEAST_HIDDEN
        and hidden & (hidden - 1) == 0
        and ttt.short_conv_size_qkv == (0, 0, 3)
    )


def choose(device: torch.device, config: ModelConfig) -> Operations:
    """The operations for a network on a device: in Triton on a CUDA device of capability 8.0 or
    later, where it is installed and the sizes fit; in plain torch otherwise.

    Where Triton is there and cannot compile (it needs a C compiler), a warning says why.
    """
    if device.type != "cuda" or torch.version.hip is not None or not fits(config):
        return TorchOperations()
    properties = torch.cuda.get_device_properties(device)
    if properties.major < 8 or importlib.util.find_spec("triton") is None:
        return TorchOperations()
    try:
        from vggt3_ros.model.kernels.triton_operations import TritonOperations

        operations = TritonOperations(properties.multi_processor_count)
        _try(operations, device)
    except Exception as error:  # of whatever the compiler, the driver or the package lacks
        warnings.warn(
            f"Triton does not run on {device}: {error}. The network runs without fused kernels, "
            "slower; Triton needs a C compiler (Debian and Ubuntu: apt install gcc)",
            stacklevel=2,
        )
        return TorchOperations()
    return operations


def _try(operations: Operations, device: torch.device) -> None:
    """Compile a small kernel and run it."""
    rope = rope_table((1, 1), 0, 64, 100.0, device)
    operations.unit(torch.zeros(1, 1, 64, device=device), rope, 1, 1)
