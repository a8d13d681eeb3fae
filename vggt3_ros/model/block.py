"""A pre-norm transformer block: attention and MLP, each scaled and added to the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.global_attention import AnyGlobalAttention
from vggt3_ros.model.rope import RopeTable


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x (..., C)."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., dim) to (..., out)."""
        return self.fc2(gelu(self.fc1(x)))


class Block(nn.Module):
    """x <- x + g1 Attn(LN(x)); x <- x + g2 MLP(LN(x)). The attention may be of any kind."""

    def __init__(
        self,
        dim: int,
        attn: SoftmaxAttention | AnyGlobalAttention,
        scale: float = 0.01,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attn
        self.ls1 = LayerScale(dim, scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim, dim)
        self.ls2 = LayerScale(dim, scale)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output to the residual stream x (..., C), then the MLP's."""
        x = x + self.ls1(attended)
        return x + self.ls2(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """Softmax attention among the P tokens of each group of x (..., P, C)."""
        return self.finish(x, self.attn(self.norm1(x), rope))
