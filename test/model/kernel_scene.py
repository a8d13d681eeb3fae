"""Random tokens and fast weights for kernels, on the GPU where there is one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rope import RopeTable, rope_table

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Scene(NamedTuple):
    """Random tokens of 2 frames of 5 special tokens and a grid that no tile divides."""

    qkv: Tensor
    kernels: Tensor
    rates: Tensor
    weights: FastWeights
    rope: RopeTable
    grid: tuple[int, int]

    @property
    def k(self) -> Tensor:
        """A slice of the projection, whose rows lie three times their length apart."""
        return self.qkv.chunk(3, dim=-1)[1]

    @property
    def v(self) -> Tensor:
        return self.qkv.chunk(3, dim=-1)[2]

    @property
    def heads(self) -> int:
        return len(self.weights.w0)


def scene(
    seed: int = 0, heads: int = 2, width: int = 64, ratio: int = 2, rope_heads: int = 2
) -> Scene:
    random = torch.Generator().manual_seed(seed)
    grid = (7, 9 + seed)
    tokens = 5 + grid[0] * grid[1]
    channels = heads * width
    hidden = ratio * width

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=random)).to(DEVICE)

    weights = FastWeights(
        drawn(heads, width, hidden, scale=(2 / width) ** 0.5),
        drawn(heads, hidden, width, scale=(2 / hidden) ** 0.5),
        drawn(heads, width, hidden, scale=(2 / width) ** 0.5),
    )
    return Scene(
        drawn(2, tokens, 3 * channels),
        drawn(channels, 1, 3, 3, scale=1 / 3),
        drawn(2 * tokens, 3, heads).exp() / 100,
        weights,
        rope_table(grid, 5, channels // rope_heads, 100.0, DEVICE),
        grid,
    )
