"""Softmax attention: within a frame, in the backbone and in the camera head; between frames it is
global_attention's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from vggt3_ros.model.kernels import Operations
from vggt3_ros.model.precision import without_autocast
from vggt3_ros.model.rope import RopeTable, apply_rope


class SoftmaxAttention(nn.Module):
    """Multi-head attention over the second-last axis; optional LayerNorm of q and k per head, then
    optional RoPE.
    """

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // num_heads) if qk_norm else None
        self.k_norm = nn.LayerNorm(dim // num_heads) if qk_norm else None
        self.proj = nn.Linear(dim, dim)
        self.operations: Operations | None = None  # fused; without them as in training

    def project(self, x: Tensor, rope: RopeTable | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v (..., heads, P, d) of tokens x (..., P, C)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (..., P, 3, heads, d)
        if self.operations is not None and self.q_norm is not None and rope is not None:
            q, k, v = qkv.unbind(-3)
            q = self.operations.norm_rope(q, self.q_norm.weight, self.q_norm.bias, rope)
            k = self.operations.norm_rope(k, self.k_norm.weight, self.k_norm.bias, rope)
            return q, k, v.transpose(-2, -3)
        q, k, v = qkv.transpose(-2, -4).unbind(-3)
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(q.float())
            k = self.k_norm(k.float())
        if rope is not None:
            q = apply_rope(q, rope)
            k = apply_rope(k, rope)
        return q.to(v.dtype), k.to(v.dtype), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention output (..., Nq, C) of q (..., heads, Nq, d) over k, v (..., heads, Nk, d)."""
        return self.proj(softmax_attention(q, k, v).transpose(-2, -3).flatten(-2))

    def attend_last(self, x: Tensor, count: int) -> Tensor:
        """What the last `count` tokens of x (..., P, C) retrieve from all P; without q/k norm and
        RoPE.
        """
        dim = x.shape[-1]
        weight = self.qkv.weight
        bias = self.qkv.bias
        q = linear(x[..., -count:, :], weight[:dim], bias[:dim]).unflatten(-1, (self.num_heads, -1))
        k, v = linear(x, weight[dim:], bias[dim:]).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return self.attend(q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3))

    def attend_others_and_self(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What each token of x (..., P, C) retrieves from keys and values (..., heads, K, d) of
        others and from itself, not from the rest of x; without RoPE.
        """
        q, own_key, own_value = self.project(x)
        scaled = q * q.shape[-1] ** -0.5
        own = (scaled * own_key).sum(-1, keepdim=True)
        weights = torch.cat([scaled @ keys.transpose(-1, -2), own], dim=-1).softmax(dim=-1)
        mixed = weights[..., :-1] @ values + weights[..., -1:] * own_value
        return self.proj(mixed.transpose(-2, -3).flatten(-2))

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """Every token of x (..., P, C) attends to all P tokens of its own group."""
        return self.attend(*self.project(x, rope))


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (..., heads, N, d), by the kernel that is fastest where it
    runs.

    Training on a CPU in bf16, plain products on its matrix units beat the fused kernel, whose
    backward pass has none (measured at 113 and 904 tokens: 1.5 times the speed of the whole stack).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
        with without_autocast(q.device):
            return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
    # the fused kernels take four axes only
    flat_q, flat_k, flat_v = (part.reshape(-1, *part.shape[-3:]) for part in (q, k, v))
    return scaled_dot_product_attention(flat_q, flat_k, flat_v).reshape(q.shape)
