"""The layer that replaces global attention: it fits a small MLP to the tokens of all frames, then
asks it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, silu, softplus

from vggt3_ros.model import fast_weights, kernels
from vggt3_ros.model.anchors import SceneFrames
from vggt3_ros.model.config import TttConfig
from vggt3_ros.model.drawn import drawn
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.kernels import Operations
from vggt3_ros.model.rope import RopeTable, apply_rope

_NORM_EPS = 1e-5


class ShortConv(nn.Module):
    """Depthwise convolution over a frame's patch grid; the special tokens pass unchanged."""

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim, bias=False)
        self.conf = self.conv  # the published checkpoints hold this kernel under both names

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Convolve x (..., P, C), whose last gh * gw tokens of P are the patches, row by row."""
        special = x.shape[-2] - grid[0] * grid[1]
        # (frames, C, gh, gw)
        patches = x[..., special:, :].unflatten(-2, grid).flatten(0, -4).movedim(-1, 1)
        patches = conv2d(
            patches, self.conv.weight, padding=self.conv.padding, groups=self.conv.groups
        )
        patches = patches.movedim(1, -1).reshape(*x.shape[:-2], grid[0] * grid[1], x.shape[-1])
        return torch.cat([x[..., :special, :].to(patches.dtype), patches], dim=-2)


class TttAttention(nn.Module):
    """Fast-weight attention over tokens (B, S, P, C) of S frames (arXiv 2602.23361; Newton-Schulz
    as in Muon).

    Channels turn with the position in `rope_heads` groups; `config.num_heads` of fast weights may
    be fewer and wider. Nothing is kept between calls: fast weights are given and returned. What
    they start from, w0, w1 and w2, is random, and stays so in the published conversion.

    Training has batches and derivatives, and is the truth; `operations` do the same for the frames
    of one scene with fused kernels.
    """

    w0: Tensor
    w1: Tensor
    w2: Tensor

    def __init__(self, dim: int, rope_heads: int, config: TttConfig) -> None:
        super().__init__()
        self.rope_heads = rope_heads
        self.num_heads = num_heads = (
            config.num_heads if config.num_heads is not None else rope_heads
        )
        self.newton_schulz_steps = config.newton_schulz_steps
        self.rate_offset = math.log(math.expm1(config.base_lr))  # softplus of it is base_lr
        d = dim // num_heads
        hidden = dim // num_heads * config.mlp_ratio
        self.register_buffer("w0", drawn(num_heads, d, hidden, deviation=math.sqrt(2 / d)))
        self.register_buffer("w1", drawn(num_heads, hidden, d, deviation=math.sqrt(2 / hidden)))
        self.register_buffer("w2", drawn(num_heads, d, hidden, deviation=math.sqrt(2 / d)))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lr_fc = nn.Linear(dim, 3 * num_heads)
        self.proj = nn.Linear(dim, dim)
        self.operations: Operations | None = None  # fused; without them as in training
        self.short_conv_qkv = nn.ModuleList(
            ShortConv(dim, size) if size else nn.Identity() for size in config.short_conv_size_qkv
        )

    @property
    def initial(self) -> FastWeights:
        """The fast weights before they have seen a scene, (h, d, m) and (h, m, d)."""
        return FastWeights(self.w0, self.w1, self.w2)

    def learn_initial(self) -> None:
        """Let training improve the initial fast weights as well; they keep their names."""
        for name in ("w0", "w1", "w2"):
            tensor = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(tensor))

    def queries(self, x: Tensor, rope: RopeTable, grid: tuple[int, int]) -> Tensor:
        """Unit queries (B, h, S * P, d) of layer-normed tokens x (B, S, P, C)."""
        return self._unit(self._project(x, 0, grid), rope)

    def training_signals(
        self, x: Tensor, rope: RopeTable, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the fast weights learn from x (B, S, P, C): k, v (B, h, S * P, d) and rates (3, B,
        h, S * P, 1).
        """
        k = self._unit(self._project(x, 1, grid), rope)
        v = self._heads(self._project(x, 2, grid))
        rates = self._rates(x)
        return k, v, rates.permute(3, 0, 4, 1, 2).flatten(3, 4).unsqueeze(-1)

    def fit(self, x: Tensor, rope: RopeTable, grid: tuple[int, int], steps: int) -> FastWeights:
        """Fast weights fitted to layer-normed tokens x (B, S, P, C) in `steps` full-batch steps."""
        weights = self.initial
        norms = fast_weights.column_norms(weights)
        signals = self.training_signals(x, rope, grid)
        for _ in range(steps):
            gradient = fast_weights.gradient(weights, *signals)
            weights = self.updated(weights, gradient, norms)
        return weights

    def retrieve(
        self, x: Tensor, weights: FastWeights, rope: RopeTable, grid: tuple[int, int]
    ) -> Tensor:
        """Attention output (B, S, P, C) for layer-normed tokens x (B, S, P, C), from fitted weights
        alone.
        """
        answers = fast_weights.apply(weights, self.queries(x, rope, grid))
        return self.proj(answers.unflatten(2, x.shape[1:3]).permute(0, 2, 3, 1, 4).flatten(-2))

    def attend_frames(self, x: Tensor, scenes: SceneFrames) -> Tensor:
        """What layer-normed tokens x (B, S, P, C) of a batch of scenes retrieve, (B, S, P, C)."""
        where = scenes.rope, scenes.grid
        return self.retrieve(x, self.fit(x[:, : scenes.mapped], *where, scenes.steps), *where)

    def gradient(
        self, x: Tensor, weights: FastWeights, rope: RopeTable, grid: tuple[int, int]
    ) -> FastWeights:
        """What layer-normed tokens x (S, P, C) add to the gradient at `weights`; that of all frames
        is the sum.
        """
        if self.operations is not None:
            dim = x.shape[-1]
            y = linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:])
            k = self.operations.unit(y[..., :dim], rope, self.rope_heads, self.num_heads)
            conv = self.short_conv_qkv[2]
            assert isinstance(conv, ShortConv)  # or the operations would not fit
            v = self.operations.convolve(y[..., dim:], conv.conv.weight, grid)
            rates = self._rates(x).flatten(0, 1)
            return self.operations.gradient(weights, k.flatten(0, 1), v.flatten(0, 1), rates)
        part = fast_weights.gradient(weights, *self.training_signals(x[None], rope, grid))
        return FastWeights(*(w[0] for w in part))

    def updated(
        self, weights: FastWeights, gradient: FastWeights, norms: FastWeights
    ) -> FastWeights:
        """Fast weights after a step; norms: column norms of those that the first step began
        with.
        """
        if self.operations is not None:
            steps = self.newton_schulz_steps
            return kernels.update(self.operations, weights, gradient, norms, steps)
        return fast_weights.update(weights, gradient, norms, self.newton_schulz_steps)

    def answer(
        self, x: Tensor, weights: FastWeights, rope: RopeTable, grid: tuple[int, int]
    ) -> Tensor:
        """As `retrieve`, of tokens (S, P, C)."""
        if self.operations is not None:
            dim = x.shape[-1]
            y = linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim])
            q = self.operations.unit(y, rope, self.rope_heads, self.num_heads)
            answers = self.operations.apply(weights, q.flatten(0, 1))
            return self.proj(answers.unflatten(0, x.shape[:2]))
        return self.retrieve(x[None], weights, rope, grid)[0]

    def _rates(self, x: Tensor) -> Tensor:
        """Learning rates (..., 3, h) of tokens x (..., C) for w0, w1, w2, in fp32."""
        shifted = self.lr_fc(x)
        # rounded to the type; a tensor of data makes wait
        shifted = shifted + shifted.new_full((), self.rate_offset)
        return softplus(shifted.float()).unflatten(-1, (3, self.num_heads))

    def _project(self, x: Tensor, part: int, grid: tuple[int, int]) -> Tensor:
        """q, k or v (part 0, 1, 2) after short convolution and SiLU, (B, S, P, C); the other two
        cost nothing.
        """
        dim = x.shape[-1]
        rows = slice(part * dim, (part + 1) * dim)
        y = linear(x, self.qkv.weight[rows], self.qkv.bias[rows])
        conv = self.short_conv_qkv[part]
        if isinstance(conv, ShortConv):
            y = conv(y, grid)
        return silu(y)

    def _heads(self, y: Tensor) -> Tensor:
        """Channels (B, S, P, C) as those of the fast weights, (B, h, S * P, d)."""
        return y.unflatten(-1, (self.num_heads, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3)

    def _unit(self, y: Tensor, rope: RopeTable) -> Tensor:
        """Rotate (B, S, P, C) by position, in its own type, and scale every head to unit length in
        fp32.
        """
        y = y.unflatten(-1, (self.rope_heads, -1)).transpose(-2, -3)  # (B, S, h, P, d)
        y = apply_rope(y, RopeTable(rope.cos.to(y.dtype), rope.sin.to(y.dtype)))
        y = self._heads(y.transpose(-2, -3).flatten(-2))
        y = y.float() if y.dtype == torch.bfloat16 else y
        return y / (torch.linalg.vector_norm(y, dim=-1, keepdim=True) + _NORM_EPS)
