"""Faster ways to execute a network on a GPU. Results are the same but for rounding, and each may be
left off.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.model import kernels
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.precision import Precision

PARTS = ("kernels", "compiled", "graphs")


@dataclass(frozen=True)
class Execution:
    """Which of them are on.

    kernels: fused Triton kernels of the TTT layers and frame blocks. compiled: blocks and dense
    heads by torch.compile, once for all layers of a kind and each shape. graphs: the query of one
    image is recorded as a CUDA graph and replayed.
    """

    kernels: bool = False
    compiled: bool = False
    graphs: bool = False

    @staticmethod
    def parse(
        text: str,
        device: torch.device,
        config: ModelConfig | None = None,
        precision: Precision = "bf16",
    ) -> Execution:
        """From 'auto', 'plain', or some of 'kernels', 'compiled', 'graphs' with commas between.

        'auto' is graphs on a CUDA device, and kernels where they run for networks in bf16: in fp32
        they have no matrix units. Compiling takes longer than most maps. Raises InputError where
        the text is none of these, or the device, or a network of these sizes, has no such thing.
        """
        on_gpu = device.type == "cuda"
        if text == "auto":
            fused = precision == "bf16" and kernels.run_on(device, config)
            return Execution(fused, graphs=on_gpu)
        if text == "plain":
            return Execution()
        named = text.split(",")
        if not set(named) <= set(PARTS) or len(set(named)) < len(named):
            raise InputError(
                f"execution is {text!r}, expected 'auto', 'plain', or some of {', '.join(PARTS)}"
                " with commas between"
            )
        if not on_gpu and set(named) != {"compiled"}:
            raise InputError(
                f"execution is {text!r}, but kernels and graphs need a CUDA device, and the network"
                f" is to run on {device}; give 'auto', 'plain' or 'compiled'"
            )
        if "kernels" in named and not kernels.run_on(device, config):
            raise InputError(
                f"execution is {text!r}, but the kernels need Triton, compute capability 8.0 or"
                " later, and heads 32 to 128 wide; give 'auto' or 'plain'"
            )
        return Execution(**dict.fromkeys(named, True))

    def __str__(self) -> str:
        on = [field.name for field in fields(self) if getattr(self, field.name)]
        return ",".join(on) or "plain"
