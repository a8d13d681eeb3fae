"""torch.compile by regions: what repeats in every layer is compiled once and serves all of them.

A network compiled as a whole compiles every layer anew, for which nobody has the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vggt3_ros.model.backbone import DinoBackbone
from vggt3_ros.model.block import Block
from vggt3_ros.model.dpt_head import DptHead

if TYPE_CHECKING:
    from vggt3_ros.model.network import Vggt3

_SHAPES = 64  # of each kind of block: numbers of frames and sizes of images

Backend = str | Callable[..., Any]


@cache
def compiled(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """One compiled function for all modules of a kind: their weights are inputs of it. Another
    shape compiles again.
    """
    return torch.compile(function, dynamic=False, backend=backend)


def replace_method(module: nn.Module, method: str, function: Callable[..., Any]) -> None:
    """Let a module's method be a function of the module and what the method takes."""
    setattr(module, method, partial(function, module))


def compile_inference(network: Vggt3, backend: Backend = "inductor") -> None:
    """Let blocks and dense heads run compiled when the network maps and is queried."""
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _SHAPES)
    for module, method, function in _regions(network):
        replace_method(module, method, compiled(function, backend))


def run_as_written(network: Vggt3) -> None:
    """Let everything run as it is written again."""
    for module, method, _ in _regions(network):
        module.__dict__.pop(method, None)


def _regions(network: Vggt3) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
    aggregator = network.aggregator
    blocks = [*aggregator.frame_blocks]
    if isinstance(aggregator.patch_embed, DinoBackbone):
        blocks += aggregator.patch_embed.blocks
    for block in blocks:
        yield block, "forward", Block.forward
    for block in aggregator.global_blocks:
        yield block, "finish", Block.finish
    for head in (network.depth_head, network.point_head):
        if head is not None:
            yield head, "decode", DptHead.decode
