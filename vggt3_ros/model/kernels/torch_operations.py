"""The operations in plain torch: for every device, type and size, and with derivatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm, silu

from vggt3_ros.model import fast_weights
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rope import RopeTable, apply_rope

NORM_EPS = 1e-5


class TorchOperations:
    """`Operations` out of the functions of fast_weights and rope."""

    def unit(self, y: Tensor, rope: RopeTable, rope_heads: int, heads: int) -> Tensor:
        """Directions of q or k, see `Operations`; rotated in the type of y, scaled in fp32."""
        turned = silu(y).unflatten(-1, (rope_heads, -1)).transpose(-2, -3)  # (S, h, P, d)
        turned = apply_rope(turned, RopeTable(rope.cos.to(y.dtype), rope.sin.to(y.dtype)))
        by_head = turned.transpose(-2, -3).flatten(-2).unflatten(-1, (heads, -1))
        by_head = by_head.float() if y.dtype == torch.bfloat16 else by_head
        length = torch.linalg.vector_norm(by_head, dim=-1, keepdim=True)
        return (by_head / (length + NORM_EPS)).flatten(-2).to(y.dtype)

    def convolve(self, y: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
        """Short convolution of v, see `Operations`; kernels of any odd size."""
        special = y.shape[-2] - grid[0] * grid[1]
        patches = y[:, special:].unflatten(1, grid).movedim(-1, 1)  # (S, C, gh, gw)
        patches = conv2d(patches, weight, padding=weight.shape[-1] // 2, groups=y.shape[-1])
        patches = patches.flatten(2).transpose(1, 2)
        return silu(torch.cat([y[:, :special].to(patches.dtype), patches], dim=1))

    def gradient(self, weights: FastWeights, k: Tensor, v: Tensor, rates: Tensor) -> FastWeights:
        """What the fast weights learn, see `Operations`."""
        heads = weights.w0.shape[0]
        by_head = rates.permute(1, 2, 0).unsqueeze(-1)  # (3, h, N, 1)
        return fast_weights.gradient(weights, split_heads(k, heads), split_heads(v, heads), by_head)

    def apply(self, weights: FastWeights, q: Tensor) -> Tensor:
        """What the fast weights answer, see `Operations`."""
        answers = fast_weights.apply(weights, split_heads(q, weights.w0.shape[0]))
        return answers.transpose(0, 1).flatten(1)

    def norm_rope(self, x: Tensor, weight: Tensor, bias: Tensor, rope: RopeTable) -> Tensor:
        """Queries or keys of a frame block, see `Operations`."""
        normed = layer_norm(x.float(), x.shape[-1:], weight, bias, NORM_EPS)
        return apply_rope(normed.transpose(-2, -3), rope).to(x.dtype)

    def newton_schulz(self, matrices: Tensor, steps: int) -> Tensor:
        """Orthogonal factors, see `Operations`."""
        return fast_weights.newton_schulz(matrices, steps)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Tokens (N, C) as (heads, N, d)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(0, 1)
