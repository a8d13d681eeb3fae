"""Fast weights: the per-head MLP that a TTT layer fits to a scene (arXiv 2602.23361), as pure
functions.

Shapes: k, v (..., h, N, d); rates (3, ..., h, N, 1) for w0, w1, w2; w0, w2 (..., h, d, m); w1 (...,
h, m, d). The state is kept in fp32; matrix products run in the autocast type when autocast is on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from vggt3_ros.model.precision import autocast_dtype

_NORM_EPS = 1e-5
_FROBENIUS_EPS = 1e-7


class FastWeights(NamedTuple):
    """f(z) = (SiLU(z w0) * (z w2)) w1; also used for a gradient, which has the same three parts."""

    w0: Tensor
    w1: Tensor
    w2: Tensor

    def __add__(self, other: FastWeights) -> FastWeights:  # type: ignore[override]
        """Sum part by part."""
        return FastWeights(self.w0 + other.w0, self.w1 + other.w1, self.w2 + other.w2)


def apply(weights: FastWeights, q: Tensor) -> Tensor:
    """f(q): what the scene MLP answers to the queries (..., h, N, d)."""
    return (silu(q @ weights.w0) * (q @ weights.w2)) @ weights.w1


def gradient(weights: FastWeights, k: Tensor, v: Tensor, rates: Tensor) -> FastWeights:
    """Derivatives of sum_t rate_t <f(k_t), v_t> by w0, w1, w2, in fp32; they add up over any
    partition of tokens.
    """
    eta0, eta1, eta2 = rates
    a = k @ weights.w0
    u = k @ weights.w2
    s = torch.sigmoid(a)
    gated = a * s
    r = v @ weights.w1.transpose(-1, -2)
    k_t = k.transpose(-1, -2)
    return FastWeights(
        (k_t @ (eta0 * (r * u * s * (1 + a * (1 - s))))).float(),
        ((eta1 * (gated * u)).transpose(-1, -2) @ v).float(),
        (k_t @ (eta2 * (r * gated))).float(),
    )


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """Approximate the orthogonal factor of (..., n, m) by Muon's quintic iteration; steps < 0
    changes nothing.
    """
    if steps < 0:
        return matrix
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.transpose(-1, -2) if tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + _FROBENIUS_EPS)
    rounded = autocast_dtype(x.device)
    if rounded is not None:
        x = x.to(rounded)
    for _ in range(steps):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    x = x.float() if matrix.dtype == torch.float32 else x
    return x.transpose(-1, -2) if tall else x


def column_norms(weights: FastWeights) -> FastWeights:
    """Norms over the row axis, (..., h, 1, columns): the reference that every update of one call is
    scaled back to.
    """
    return FastWeights(*(torch.linalg.vector_norm(w, dim=-2, keepdim=True) for w in weights))


def update(
    weights: FastWeights, gradients: FastWeights, norms: FastWeights, newton_schulz_steps: int
) -> FastWeights:
    """One TTT step: add the orthogonalised gradient (the inner product grows), then restore the
    column norms.
    """
    updated = []
    for weight, gradient, norm in zip(weights, gradients, norms, strict=True):
        stepped = weight + newton_schulz(gradient, newton_schulz_steps)
        grown = torch.linalg.vector_norm(stepped, dim=-2, keepdim=True) + _NORM_EPS
        updated.append(stepped / grown * norm)
    return FastWeights(*updated)
