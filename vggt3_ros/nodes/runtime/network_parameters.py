"""The parameters of a node's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggt3_ros.nodes.runtime.parameters import NodeParameters, parameter


@dataclass(frozen=True)
class NetworkParameters(NodeParameters):
    """What both nodes have to know about their network."""

    autostart: bool = parameter(
        False, "configure and activate at start, without a lifecycle manager"
    )
    model: str = parameter(
        "tiny", "network: 'tiny' (embedded), a file or folder of weights, or a Hugging Face name"
    )
    device: str = parameter(
        "auto",
        "device of the network: 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'",
    )
    precision: Literal["auto", "fp32", "bf16"] = parameter(
        "auto",
        "number format of the network: 'auto' is bf16 for networks of the published size on a GPU"
        " that multiplies it, otherwise fp32",
    )
    execution: str = parameter(
        "auto",
        "what makes the network faster on a GPU: some of 'kernels' (fused, in Triton), 'compiled'"
        " (torch.compile) and 'graphs' (queries), with commas between; 'auto': graphs, and kernels"
        " for bf16 where they run; 'plain': none",
    )
