"""The operations as Triton kernels, for CUDA devices of compute capability 8.0 and later.

What needs a derivative is left to the twin in torch, as is Newton-Schulz in fp32 or of matrices too
wide for the shared memory of one multiprocessor.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.kernels.torch_operations import TorchOperations
from vggt3_ros.model.kernels.triton_fast_weights import (
    apply_kernel,
    gradient_kernel,
    newton_schulz_kernel,
)
from vggt3_ros.model.kernels.triton_tokens import convolve_kernel, norm_rope_kernel, unit_kernel
from vggt3_ros.model.precision import autocast_dtype
from vggt3_ros.model.rope import RopeTable

_TOKEN_TILE = 512  # channels of a quarter that one program of the token kernels holds
_CONVOLVED = (8, 64)  # columns and channels of one program
_LARGEST_MATRIX = 64 * 256


class Tile(NamedTuple):
    """How much of hidden width and of the tokens a program holds, and how it is run."""

    hidden: int
    tokens: int
    warps: int
    stages: int


def gradient_tile(width: int, dtype: torch.dtype) -> Tile:
    """Tile of the gradient for heads of a width, whose three sums stay in registers."""
    if dtype != torch.bfloat16:
        return Tile(32, 16, 8, 1)
    return Tile(64, 32, 4, 3) if width <= 64 else Tile(32, 32, 4, 2)


def apply_tile(width: int, dtype: torch.dtype) -> Tile:
    """Tile of the answers for heads of a width."""
    if dtype != torch.bfloat16:
        return Tile(32, 32, 8, 1) if width <= 64 else Tile(16, 16, 8, 1)
    return Tile(64, 128, 8, 2) if width <= 64 else Tile(32, 128, 8, 2)


class TritonOperations(TorchOperations):
    """`Operations` for one kind of device; `multiprocessors` of it are kept busy."""

    def __init__(self, multiprocessors: int) -> None:
        self.multiprocessors = multiprocessors

    def unit(self, y: Tensor, rope: RopeTable, rope_heads: int, heads: int) -> Tensor:
        """Directions of q or k, see `Operations`."""
        if _differentiated(y):
            return super().unit(y, rope, rope_heads, heads)
        frames, tokens, channels = y.shape
        rows, stride = _rows(y)
        out = y.new_empty(y.shape)
        groups = rope_heads // heads
        quarter = channels // rope_heads // 4
        at_once = math.gcd(heads, 4)
        count = max(1, _TOKEN_TILE // (groups * quarter))
        blocks = heads // at_once
        with _on(y):
            unit_kernel[(triton.cdiv(frames * tokens, count) * blocks,)](
                rows, out, rope.cos.contiguous(), rope.sin.contiguous(),
                frames * tokens, tokens, stride, channels, blocks,
                HEADS=at_once, GROUPS=groups, QUARTER=quarter, ROWS=count, num_warps=4,
            )  # fmt: skip
        return out

    def convolve(self, y: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
        """Short convolution of v, see `Operations`."""
        if _differentiated(y, weight):
            return super().convolve(y, weight, grid)
        frames, tokens, channels = y.shape
        rows, stride = _rows(y)
        out = y.new_empty(y.shape)
        columns, at_once = _CONVOLVED[0], math.gcd(channels, _CONVOLVED[1])
        height, width = grid
        programs = (channels // at_once, triton.cdiv(width, columns) + 1, frames)
        with _on(y):
            convolve_kernel[programs](
                rows, weight.flatten(1).t().contiguous(), out, tokens - height * width,
                height, width, stride, channels,
                COLUMNS=columns, CHANNELS=at_once, num_warps=4,
            )  # fmt: skip
        return out

    def gradient(self, weights: FastWeights, k: Tensor, v: Tensor, rates: Tensor) -> FastWeights:
        """What the fast weights learn, see `Operations`; the same bits every time on one device."""
        if _differentiated(*weights, k, v, rates):
            return super().gradient(weights, k, v, rates)
        heads, width, hidden = weights.w0.shape
        tile = gradient_tile(width, k.dtype)
        keys, k_stride = _rows(k)
        values, v_stride = _rows(v)
        tiles = max(1, triton.cdiv(len(k), tile.tokens))
        # two programs fit a multiprocessor, and a second round would leave most of them idle
        wanted = max(1, 2 * self.multiprocessors // (heads * hidden // tile.hidden))
        at_once = triton.cdiv(tiles, wanted)
        splits = triton.cdiv(tiles, at_once)
        parts = k.new_empty((splits, 3, heads * width * hidden), dtype=torch.float32)
        with _on(k):
            gradient_kernel[(hidden // tile.hidden, heads, splits)](
                keys, values, rates.permute(1, 2, 0).contiguous(), *_rounded(weights, k.dtype),
                parts, len(k), at_once, k_stride, v_stride,
                WIDTH=width, HIDDEN=hidden, TILE=tile.hidden, TOKENS=tile.tokens,
                num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
        w0, w1, w2 = parts.sum(0)
        return FastWeights(
            w0.view(heads, width, hidden),
            w1.view(heads, hidden, width),
            w2.view(heads, width, hidden),
        )

    def apply(self, weights: FastWeights, q: Tensor) -> Tensor:
        """What the fast weights answer, see `Operations`."""
        if _differentiated(*weights, q):
            return super().apply(weights, q)
        heads, width, hidden = weights.w0.shape
        tile = apply_tile(width, q.dtype)
        rows, stride = _rows(q)
        out = q.new_empty(q.shape)
        with _on(q):
            apply_kernel[(triton.cdiv(len(q), tile.tokens) * heads,)](
                rows, *_rounded(weights, q.dtype), out, len(q), heads, stride, q.shape[-1],
                WIDTH=width, HIDDEN=hidden, TILE=tile.hidden, TOKENS=tile.tokens,
                num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
        return out

    def norm_rope(self, x: Tensor, weight: Tensor, bias: Tensor, rope: RopeTable) -> Tensor:
        """Queries or keys of a frame block, see `Operations`."""
        if _differentiated(x, weight, bias):
            return super().norm_rope(x, weight, bias, rope)
        *frames, tokens, heads, width = x.shape
        if x.stride(-1) != 1:
            x = x.contiguous()
        rows = x.flatten(0, -3)  # a view of a projection's slice
        out = x.new_empty((*frames, heads, tokens, width))
        at_once = math.gcd(heads, 4)
        count = max(1, _TOKEN_TILE * 4 // width)
        blocks = heads // at_once
        with _on(x):
            norm_rope_kernel[(triton.cdiv(len(rows), count) * blocks,)](
                rows, out, weight, bias, rope.cos.contiguous(), rope.sin.contiguous(),
                len(rows), tokens, heads, rows.stride(0), rows.stride(1), blocks,
                HEADS=at_once, QUARTER=width // 4, ROWS=count, num_warps=4,
            )  # fmt: skip
        return out

    def newton_schulz(self, matrices: Tensor, steps: int) -> Tensor:
        """Orthogonal factors, see `Operations`."""
        n, rows, columns = matrices.shape
        fused = autocast_dtype(matrices.device) == torch.bfloat16 and steps >= 0
        if not fused or rows * columns > _LARGEST_MATRIX or _differentiated(matrices):
            return super().newton_schulz(matrices, steps)
        matrices = matrices.contiguous()
        out = torch.empty_like(matrices)
        with _on(matrices):
            newton_schulz_kernel[(n,)](
                matrices, out, steps, ROWS=rows, COLUMNS=columns, num_warps=8
            )
        return out


def _rows(tokens: Tensor) -> tuple[Tensor, int]:
    """Tokens (..., C) whose rows are equally far apart, and how far; copied where they are not."""
    rows = tokens.flatten(0, -2)
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    return rows, rows.stride(0)


def _rounded(weights: FastWeights, dtype: torch.dtype) -> list[Tensor]:
    """Fast weights as the products take them; all programs of a head read the same."""
    return [part.to(dtype).contiguous() for part in weights]


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
