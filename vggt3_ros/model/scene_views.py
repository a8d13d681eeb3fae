"""What a global layer knows of the whole scene: made from the tokens of all frames, chunk by chunk,
then asked by each chunk.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vggt3_ros.model import fast_weights
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rope import RopeTable
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.ranks import Ranks


class SceneView(Protocol):
    """All tokens x (s, P, C) are layer-normed, and s frames are a chunk."""

    def see(self, x: Tensor) -> None:
        """Take in a chunk."""

    def seen_all(self) -> None:
        """Learn from what was seen since the last call."""

    def attend(self, x: Tensor) -> Tensor:
        """The layer's attention output (s, P, C) for a chunk."""


class FastWeightsView:
    """Fast weights: a TTT step each time that all frames were seen, those of all `ranks`. Memory
    does not depend on the number of frames.
    """

    def __init__(
        self,
        attn: TttAttention,
        rope: RopeTable,
        grid: tuple[int, int],
        weights: FastWeights | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.attn = attn
        self.weights = attn.initial if weights is None else weights
        self._where = rope, grid
        self._norms: FastWeights | None = None  # of the weights that it began with
        self._total: FastWeights | None = None
        self._ranks = ranks

    def see(self, x: Tensor) -> None:
        """Add a chunk's part of the gradient."""
        part = self.attn.gradient(x, self.weights, *self._where)
        self._total = part if self._total is None else self._total + part

    def seen_all(self) -> None:
        """Take one TTT step with the gradient of all frames."""
        assert self._total is not None
        self._norms = self._norms or fast_weights.column_norms(self.weights)
        total = self._total if self._ranks is None else FastWeights(*self._ranks.sum(self._total))
        self.weights = self.attn.updated(self.weights, total, self._norms)
        self._total = None

    def attend(self, x: Tensor) -> Tensor:
        """Ask the fast weights."""
        return self.attn.answer(x, self.weights, *self._where)


class KeysView:
    """Softmax attention to all tokens: keys and values of all frames are kept."""

    def __init__(self, attn: SoftmaxAttention, rope: RopeTable) -> None:
        self.attn = attn
        self.rope = rope
        self._chunks: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._keys = self._values = torch.empty(0)

    def see(self, x: Tensor) -> None:
        """Keep a chunk's keys and values."""
        for part, seen in zip(self.attn.project(x, self.rope)[1:], self._chunks, strict=True):
            seen.append(part.transpose(0, 1).flatten(1, 2))

    def seen_all(self) -> None:
        """Put them together, (h, N, d)."""
        keys, values = self._chunks
        self._keys = torch.cat(keys, dim=1)
        keys.clear()
        self._values = torch.cat(values, dim=1)
        values.clear()

    def attend(self, x: Tensor) -> Tensor:
        """Attend to all tokens."""
        q = self.attn.project(x, self.rope)[0].transpose(0, 1).flatten(1, 2)
        return self.attn.attend(q[None], self._keys[None], self._values[None])[0].view_as(x)
