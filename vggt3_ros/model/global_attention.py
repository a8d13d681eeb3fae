"""Attention between frames, of every kind (config.GlobalAttention) but fast weights alone, which
have a file of their own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vggt3_ros.model.anchors import AnchorKeys, SceneFrames, chosen_tokens
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.kernels import Operations
from vggt3_ros.model.rope import RopeTable
from vggt3_ros.model.ttt_attention import TttAttention

_FIRST_GATE = 0.1  # fast weights begin as noise beside what anchors say


class GlobalSoftmaxAttention(SoftmaxAttention):
    """Softmax attention, with norm of q and k and RoPE, to keys of all frames ('softmax'), of the
    scene's anchors ('anchored') or of the frame itself ('frame').

    A scene keeps the anchors' keys of each `patch_stride`-th patch (AnchorConfig).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        keys_of: Literal["softmax", "anchored", "frame"],
        patch_stride: int = 1,
    ) -> None:
        super().__init__(dim, num_heads, qk_norm=True)
        self.keys_of = keys_of
        self.patch_stride = patch_stride

    def anchor_keys(self, x: Tensor, rope: RopeTable, grid: tuple[int, int]) -> AnchorKeys:
        """What is kept of layer-normed tokens (..., K, P, C) of anchors: (..., heads, N, d)."""
        kept = chosen_tokens(grid, x.shape[-2], self.patch_stride)
        _, k, v = self.project(x, rope)  # (..., K, h, P, d)
        keys, values = (part[..., kept, :].transpose(-3, -4).flatten(-3, -2) for part in (k, v))
        return AnchorKeys(keys, values)

    def attend_keys(self, x: Tensor, known: AnchorKeys, rope: RopeTable) -> Tensor:
        """What tokens x (..., S, P, C) of all frames retrieve from keys (..., heads, N, d)."""
        q = self.project(x, rope)[0].transpose(-3, -4).flatten(-3, -2)
        keys, values = (part.to(q.dtype) for part in known)
        return self.attend(q, keys, values).view_as(x)

    def attend_frames(self, x: Tensor, scenes: SceneFrames) -> Tensor:
        """What layer-normed tokens x (B, S, P, C) of a batch of scenes retrieve, (B, S, P, C)."""
        if self.keys_of == "frame":
            return self(x, scenes.rope)
        if self.keys_of == "anchored":
            batch = torch.arange(len(x), device=x.device)[:, None]
            known = self.anchor_keys(x[batch, scenes.anchors], scenes.rope, scenes.grid)
            return self.attend_keys(x, known, scenes.rope)
        q, k, v = (part.transpose(1, 2) for part in self.project(x, scenes.rope))  # (B, h, S, P, d)
        seen = scenes.mapped
        attended = self.attend(
            q.flatten(2, 3), k[:, :, :seen].flatten(2, 3), v[:, :, :seen].flatten(2, 3)
        )
        return attended.view_as(x)


class GatedAttention(nn.Module):
    """What anchors say, and what fast weights say, the latter times a learnt gate a channel."""

    def __init__(self, anchored: GlobalSoftmaxAttention, fast: TttAttention, dim: int) -> None:
        super().__init__()
        self.anchored = anchored
        self.fast = fast
        self.gate = nn.Parameter(torch.full((dim,), _FIRST_GATE))

    @property
    def operations(self) -> Operations | None:
        """Fused, of both parts."""
        return self.fast.operations

    @operations.setter
    def operations(self, operations: Operations | None) -> None:
        self.anchored.operations = self.fast.operations = operations

    def together(self, anchored: Tensor, fast: Tensor) -> Tensor:
        """Attention output (..., C) of both parts' outputs."""
        return anchored + self.gate * fast

    def attend_frames(self, x: Tensor, scenes: SceneFrames) -> Tensor:
        """What layer-normed tokens x (B, S, P, C) of a batch of scenes retrieve, (B, S, P, C)."""
        return self.together(
            self.anchored.attend_frames(x, scenes), self.fast.attend_frames(x, scenes)
        )


AnyGlobalAttention = GlobalSoftmaxAttention | TttAttention | GatedAttention


def build_global_attention(config: ModelConfig, layer: int) -> AnyGlobalAttention:
    """The attention between frames of a layer."""
    kind = config.global_kinds[layer]
    dim = config.embed_dim
    stride = config.anchors.stride(layer)

    def fast() -> TttAttention:
        assert config.ttt is not None
        return TttAttention(dim, config.num_heads, config.ttt)

    if kind == "ttt":
        return fast()
    if kind == "ttt+anchored":
        anchored = GlobalSoftmaxAttention(dim, config.num_heads, "anchored", stride)
        return GatedAttention(anchored, fast(), dim)
    return GlobalSoftmaxAttention(dim, config.num_heads, kind, stride)


def memory_sizes(attn: AnyGlobalAttention) -> dict[str, tuple[int, ...]]:
    """By name the sizes of what a scene keeps of a layer, as LayerMemory.sizes has them."""
    if isinstance(attn, GatedAttention):
        return memory_sizes(attn.fast) | memory_sizes(attn.anchored)
    if isinstance(attn, TttAttention):
        return {name: tuple(part.shape) for name, part in attn.initial._asdict().items()}
    if attn.keys_of == "frame":
        return {}
    of_head = attn.num_heads, attn.qkv.in_features // attn.num_heads
    return dict.fromkeys(AnchorKeys._fields, of_head)
