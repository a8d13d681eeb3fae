"""What a network's layers leave to kernels: steps whose intermediate results are large and need
never be written, as plain torch (`TorchOperations`) or fused (`triton_operations`).

Tokens are rows, and nothing is transposed in memory: S frames of P tokens with C channels, N = S *
P. Tokens may be slices of a wider projection, such as q, k and v of (S, P, 3 C), if their channels
lie side by side. C is cut into heads of width d; what has hidden width m is inside.

In bf16 all of it runs under bf16 autocast, and tokens are bf16; what a kernel computes between
reading and writing is fp32. Each result may differ from the twin's by rounding.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vggt3_ros.model import fast_weights
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rope import RopeTable


class Operations(Protocol):
    """Fused steps of a TTT layer, and of a frame block's attention."""

    def unit(self, y: Tensor, rope: RopeTable, rope_heads: int, heads: int) -> Tensor:
        """SiLU of y (S, P, C), rotation in each of `rope_heads`, and each of `heads` to unit
        length: (S, P, C) in the type of y.
        """
        ...

    def convolve(self, y: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
        """SiLU of y (S, P, C) after depthwise kernels (C, 1, 3, 3) on the patch grid, the last gh *
        gw of P tokens; those before are not convolved: (S, P, C) in the type of y.
        """
        ...

    def gradient(self, weights: FastWeights, k: Tensor, v: Tensor, rates: Tensor) -> FastWeights:
        """`fast_weights.gradient` of k, v (N, C) and fp32 rates (N, 3, heads): fp32, as the
        weights.
        """
        ...

    def apply(self, weights: FastWeights, q: Tensor) -> Tensor:
        """`fast_weights.apply` to queries q (N, C): (N, C) in the type of q."""
        ...

    def norm_rope(self, x: Tensor, weight: Tensor, bias: Tensor, rope: RopeTable) -> Tensor:
        """LayerNorm of x (..., P, heads, d) with weight and bias (d), then rotation, both in fp32:
        (..., heads, P, d) in the type of x.
        """
        ...

    def newton_schulz(self, matrices: Tensor, steps: int) -> Tensor:
        """`fast_weights.newton_schulz` of fp32 matrices (n, r, c), r <= c: (n, r, c) in fp32."""
        ...


def update(
    operations: Operations,
    weights: FastWeights,
    gradients: FastWeights,
    norms: FastWeights,
    newton_schulz_steps: int,
) -> FastWeights:
    """`fast_weights.update`, with the three gradients of all heads orthogonalised at once.

    Weights and gradients (h, d, m), (h, m, d), (h, d, m) in fp32, with d <= m.
    """
    stacked = torch.cat([gradients.w0, gradients.w1.transpose(-1, -2), gradients.w2])
    w0, w1, w2 = operations.newton_schulz(stacked, newton_schulz_steps).chunk(3)
    orthogonal = FastWeights(w0, w1.transpose(-1, -2), w2)
    return fast_weights.update(weights, orthogonal, norms, newton_schulz_steps=-1)
