"""Less memory for large networks: what a block did is computed again in the backward pass instead
of being kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.backbone import DinoBackbone
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.ttt_attention import TttAttention

_DENSE_FRAMES = 4  # frames whose dense maps are in memory at a time


def compute_twice(network: Vggt3) -> None:
    """Let every block and dense head of the network keep nothing but its input. Outputs and
    gradients stay the same.
    """
    aggregator = network.aggregator
    blocks = [*aggregator.frame_blocks, *network.camera_head.trunk]
    if isinstance(aggregator.patch_embed, DinoBackbone):
        blocks += aggregator.patch_embed.blocks
    for block in blocks:
        _replace(block, "forward")
    for block in aggregator.global_blocks:
        _replace(block, "finish")
    for module in aggregator.global_blocks.modules():
        if isinstance(module, TttAttention | SoftmaxAttention):
            fitted = isinstance(module, TttAttention)
            for name in ("fit", "retrieve") if fitted else ("project", "attend"):
                _replace(module, name)
    for head in (network.depth_head, network.point_head):
        if head is not None:
            setattr(head, "decode", _in_parts(head))  # noqa: B010  (mypy takes methods for constants)


def _replace(module: Any, method: str) -> None:
    setattr(module, method, _twice(getattr(module, method)))


def _twice(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*args)
        return checkpoint(function, *args, use_reentrant=False)

    return compute


def _in_parts(head: DptHead) -> Callable[[list[Tensor]], tuple[Tensor, Tensor]]:
    decode = _twice(head.decode)

    def compute(projected: list[Tensor]) -> tuple[Tensor, Tensor]:
        levels = zip(*(level.split(_DENSE_FRAMES) for level in projected), strict=True)
        values, confidences = zip(*(decode(list(part)) for part in levels), strict=True)
        return torch.cat(values), torch.cat(confidences)

    return compute
