"""Layers of the reference flow: all frames at once within frames, windows of tokens between them.
Each holds what it needs and no more.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from vggt3_ros.model import fast_weights
from vggt3_ros.model.aggregator import Aggregator
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.backbone import DinoBackbone
from vggt3_ros.model.block import Block
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rope import RopeTable
from vggt3_ros.model.ttt_attention import TttAttention

_NORM_EPS = 1e-5

Signals = tuple[Tensor, Tensor, Tensor, Tensor]
"""Unit queries and keys, values (h, N, d), and rates (3, h, N, 1) of all tokens."""


def embed(aggregator: Aggregator, images: Tensor) -> Tensor:
    """As Aggregator.embed; blocks of the backbone hold nothing but what they need."""
    backbone = aggregator.patch_embed
    if not isinstance(backbone, DinoBackbone):
        return aggregator.embed(images, reference=True)
    patches = backbone.patch_embed((images - aggregator.mean) / aggregator.std)
    rows, columns = aggregator.grid(images)
    patches = patches + backbone._positions(rows, columns)
    count = len(images)
    first = (backbone.cls_token + backbone.pos_embed[:, :1]).expand(count, -1, -1)
    x = torch.cat([first, backbone.register_tokens.expand(count, -1, -1), patches], dim=1)
    del patches
    for block in backbone.blocks:
        x = frame_block(block, x)
    x = backbone.norm(x)[:, -rows * columns :]
    variants = (torch.arange(count, device=images.device) > 0).long()
    special = aggregator.camera_token[0, variants], aggregator.register_token[0, variants]
    return torch.cat([*special, x.float()], dim=1)


def frame_block(block: Any, x: Tensor, rope: RopeTable | None = None) -> Tensor:
    """A block of softmax attention."""
    x = x + block.ls1(_attend(block.attn, block.norm1(x), rope))
    return x + block.ls2(block.mlp(block.norm2(x)))


def _attend(attn: SoftmaxAttention, x: Tensor, rope: RopeTable | None) -> Tensor:
    """Softmax attention within each of the frames x (S, P, C)."""
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
    del x
    q, k, v = qkv.transpose(-2, -4).unbind(-3)
    if attn.q_norm is not None and attn.k_norm is not None and rope is not None:
        q = _turned(attn.q_norm(q.float()), *rope).to(v.dtype)
        k = _turned(attn.k_norm(k.float()), *rope).to(v.dtype)
    return attn.attend(q, k, v)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (..., d), a half by y, then a half by x: the same as `apply_rope`, with less at a
    time.
    """
    halves = []
    for half, c, s in zip(x.chunk(2, -1), cos.chunk(2, -1), sin.chunk(2, -1), strict=True):
        a, b = half.chunk(2, dim=-1)
        halves.append(half * c + torch.cat([-b, a], dim=-1) * s)
    return torch.cat(halves, dim=-1)


def global_block(
    block: Block, tokens: Tensor, rope: RopeTable, grid: tuple[int, int], steps: int, window: int
) -> tuple[Tensor, FastWeights]:
    """Tokens (S, P, C) after a global block, and its fast weights."""
    attn = block.attn
    assert isinstance(attn, TttAttention)
    q, k, v, rates = _signals(attn, block.norm1(tokens), rope, grid, window)
    count = q.shape[1]
    windows = [slice(start, start + window) for start in range(0, count, window)]
    weights = attn.initial
    norms = fast_weights.column_norms(weights)
    for _ in range(steps):
        total = FastWeights(*(torch.zeros_like(part) for part in weights))
        for part in windows:
            gradient = fast_weights.gradient(weights, k[:, part], v[:, part], rates[:, :, part])
            total = total + gradient
        weights = fast_weights.update(weights, total, norms, attn.newton_schulz_steps)
    del k, v, rates
    answers = []
    for part in windows:
        answers.append(fast_weights.apply(weights, q[:, part]).transpose(0, 1).flatten(1))
    del q
    flat = tokens.flatten(0, 1)
    out = torch.empty_like(flat)
    for part, answer in zip(windows, answers, strict=True):
        out[part] = block.finish(flat[part], attn.proj(answer))
    return out.view_as(tokens), weights


def _signals(
    attn: TttAttention, normed: Tensor, rope: RopeTable, grid: tuple[int, int], window: int
) -> Signals:
    """What the fast weights are fitted to and asked, of layer-normed tokens (S, P, C): projected
    in chunks of whole frames, put together, then rotated and scaled.
    """
    frames = math.ceil(window / normed.shape[1])
    columns: list[list[Tensor]] = [[], [], [], []]
    for x in normed.split(frames):
        for part, projected in enumerate(attn.qkv(x).chunk(3, dim=-1)):
            conv = attn.short_conv_qkv[part]
            mixed = projected if isinstance(conv, nn.Identity) else conv(projected, grid)
            columns[part].append(silu(mixed))
        shifted = attn.lr_fc(x)
        shifted = shifted + shifted.new_full((), attn.rate_offset)
        columns[3].append(softplus(shifted.float()))
    del x, projected, mixed, shifted
    q, k, v, rates = (torch.cat(columns.pop(0)) for _ in range(4))
    heads = attn.num_heads
    rates = rates.flatten(0, 1).unflatten(-1, (3, heads)).permute(1, 2, 0).unsqueeze(-1)
    return _unit(attn, q, rope), _unit(attn, k, rope), _heads(v, heads), rates


def _unit(attn: TttAttention, y: Tensor, rope: RopeTable) -> Tensor:
    """Rotate (S, P, C) by position, in its own type, and scale every head to unit length: (h, N,
    d) in fp32.
    """
    cos, sin = (table[:, None].to(y.dtype) for table in rope)
    y = _turned(y.unflatten(-1, (attn.rope_heads, -1)), cos, sin)
    y = _heads(y.flatten(-2), attn.num_heads)
    norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True, dtype=torch.float32)
    return y / (norm + _NORM_EPS)


def _heads(y: Tensor, heads: int) -> Tensor:
    """Channels (S, P, C) as those of the fast weights, (h, N, d): a view."""
    return y.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(0, 1)
