"""Compiling for a GPU by regions: what repeats in every layer is compiled once and serves all of
them.

A network compiled as a whole compiles every layer anew, for which a run of minutes has no time; its
repeated parts are compiled once, and stay so from phase to phase where their shapes do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.model.block import Block
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.network import Vggt3

Backend = str | Callable[..., Any]


def compile_regions(network: Vggt3, backend: Backend = "inductor") -> None:
    """Let the blocks, the attention between frames and the dense heads of a network in training run
    compiled.

    Meant for steps of one shape: another one compiles again.
    """
    aggregator = network.aggregator
    for block in (*aggregator.frame_blocks, *network.camera_head.trunk):
        _replace(block, "forward", _compiled(Block.forward, backend))
    for block in aggregator.global_blocks:
        _replace(block, "finish", _compiled(Block.finish, backend))
        attend = _compiled(type(block.attn).attend_frames, backend)
        _replace(block.attn, "attend_frames", partial(_with_gradient, attend))
    for head in (network.depth_head, network.point_head):
        if head is not None:
            _replace(head, "decode", _compiled(DptHead.decode, backend))


def _replace(module: Any, method: str, function: Callable[..., Any]) -> None:
    setattr(module, method, partial(function, module))


@cache
def _compiled(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """One compiled function for all modules of a kind: their weights are inputs of it."""
    return torch.compile(function, dynamic=False, backend=backend)


def _with_gradient(attend: Callable[..., Tensor], module: Any, x: Tensor, *others: Any) -> Tensor:
    """Tokens always require a gradient: those of distillation need none, and would be compiled for
    separately.
    """
    return attend(module, x if x.requires_grad else x.detach().requires_grad_(), *others)
