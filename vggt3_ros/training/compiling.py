"""Which regions of a network in training are compiled (model/compiling.py). They stay compiled from
phase to phase where their shapes do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from vggt3_ros.model.block import Block
from vggt3_ros.model.compiling import Backend, compiled, replace_method
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.network import Vggt3


def compile_regions(network: Vggt3, backend: Backend = "inductor") -> None:
    """Let the blocks, the attention between frames and the dense heads of a network in training run
    compiled.

    Meant for steps of one shape: another one compiles again.
    """
    aggregator = network.aggregator
    for block in (*aggregator.frame_blocks, *network.camera_head.trunk):
        replace_method(block, "forward", compiled(Block.forward, backend))
    for block in aggregator.global_blocks:
        assert isinstance(block, Block)
        replace_method(block, "finish", compiled(Block.finish, backend))
        attend = compiled(type(block.attn).attend_frames, backend)
        replace_method(block.attn, "attend_frames", partial(_with_gradient, attend))
    for head in (network.depth_head, network.point_head):
        if head is not None:
            replace_method(head, "decode", compiled(DptHead.decode, backend))


def _with_gradient(attend: Callable[..., Tensor], module: Any, x: Tensor, *others: Any) -> Tensor:
    """Tokens always require a gradient: those of distillation need none, and would be compiled for
    separately.
    """
    return attend(module, x if x.requires_grad else x.detach().requires_grad_(), *others)
