"""Fused kernels for the network on a GPU, each with a twin in plain torch.

Triton is optional: it comes with torch for CUDA, and is imported when a device is there that it
compiles for.
"""

from __future__ import annotations

import importlib.util
import warnings

import torch

from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.kernels.agreement import agree
from vggt3_ros.model.kernels.operations import Operations, update
from vggt3_ros.model.kernels.torch_operations import TorchOperations

__all__ = ["Operations", "TorchOperations", "choose", "fits", "run_on", "update"]

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


def run_on(device: torch.device, config: ModelConfig | None = None) -> bool:
    """Whether the kernels are for such a device, a CUDA device of capability 8.0 or later, for a
    network of these sizes, and Triton is installed.
    """
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device)[0] >= 8
        and importlib.util.find_spec("triton") is not None
        and (config is None or fits(config))
    )


def choose(device: torch.device, config: ModelConfig, bf16: bool) -> Operations | None:
    """The kernels for a network on a device that they are for (`run_on`), tried there first: None,
    and a warning that says why, where they do not compile or answer otherwise than torch does.
    """
    try:
        from vggt3_ros.model.kernels.triton_operations import TritonOperations

        properties = torch.cuda.get_device_properties(device)
        operations = TritonOperations(properties.multi_processor_count)
        agree(operations, device, config, bf16)
    except Exception as error:  # of whatever the compiler, the driver or the package lacks
        warnings.warn(
            f"the fused kernels are not used on {device}: {error}. The network runs without them,"
            " slower; Triton needs a C compiler (Debian and Ubuntu: apt install gcc)",
            stacklevel=2,
        )
        return None
    return operations
