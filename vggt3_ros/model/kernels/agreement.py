"""Kernels are tried on the device before they are used: what they answer is what torch does."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.kernels.operations import Operations
from vggt3_ros.model.kernels.torch_operations import TorchOperations
from vggt3_ros.model.precision import autocast_to
from vggt3_ros.model.rope import rope_table

_MOST_OFF = {torch.float32: 1e-2, torch.bfloat16: 5e-2}  # relative; torch may multiply in tf32
_GRID = (5, 7)
_SPECIAL = 5


def agree(operations: Operations, device: torch.device, config: ModelConfig, bf16: bool) -> None:
    """Raise RuntimeError that names the operation whose answers to a small random scene are not
    those of torch, for a network of these sizes, and what else fails.
    """
    kind = torch.bfloat16 if bf16 else torch.float32
    answers = _answers(operations, device, config, kind)
    expected = _answers(TorchOperations(), device, config, kind)
    for name, truth in expected.items():
        off = float((answers[name].float() - truth.float()).norm() / truth.float().norm())
        if not off <= _MOST_OFF[kind]:
            raise RuntimeError(
                f"{name} is off by {off:.1e}, at most {_MOST_OFF[kind]:.0e} expected"
            )


@torch.no_grad()
def _answers(
    operations: Operations, device: torch.device, config: ModelConfig, kind: torch.dtype
) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(device)

    dim = config.embed_dim
    tokens = _SPECIAL + _GRID[0] * _GRID[1]
    rope = rope_table(_GRID, _SPECIAL, dim // config.num_heads, config.rope_freq, device)
    y = drawn(2, tokens, 2 * dim).to(kind)
    by_head = y[..., :dim].unflatten(-1, (config.num_heads, -1))
    scale, bias = drawn(2, dim // config.num_heads)
    with autocast_to("fp32" if kind == torch.float32 else "bf16", device):
        answers = {"norm_rope": operations.norm_rope(by_head, scale, bias, rope)}
        if config.ttt is None:
            return answers
        heads = config.ttt.num_heads or config.num_heads
        width = dim // heads
        hidden = width * config.ttt.mlp_ratio
        weights = FastWeights(
            drawn(heads, width, hidden) * (2 / width) ** 0.5,
            drawn(heads, hidden, width) * (2 / hidden) ** 0.5,
            drawn(heads, width, hidden) * (2 / width) ** 0.5,
        )
        k = operations.unit(y[..., :dim], rope, config.num_heads, heads)
        v = operations.convolve(y[..., dim:], drawn(dim, 1, 3, 3) / 3, _GRID)
        rates = drawn(2 * tokens, 3, heads).exp() / 100
        gradient = operations.gradient(weights, k.flatten(0, 1), v.flatten(0, 1), rates)
        answers |= {"unit": k, "convolve": v, **gradient._asdict()}
        answers["apply"] = operations.apply(weights, k.flatten(0, 1))
        steps = config.ttt.newton_schulz_steps
        answers["newton_schulz"] = operations.newton_schulz(weights.w0, steps)
    return answers
