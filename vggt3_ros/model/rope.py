"""Fixed position codes: 2-D rotary embedding of q and k, and the sinusoidal map that the DPT heads
add.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class RopeTable(NamedTuple):
    """cos and sin (P, head_dim) of every token of a frame; special tokens have angle 0."""

    cos: Tensor
    sin: Tensor


def axis_angles(
    positions: int, dim: int, base: float, bf16: bool, device: torch.device | str
) -> Tensor:
    """Angles (positions, dim) of one axis: pos * base^(-2k/dim), k = 0..dim/2-1, repeated twice.

    bf16 reproduces autocast, under which the published weights were trained: frequency and product
    are rounded to bfloat16, which shifts angles by up to 0.07 rad within 38 positions.
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    frequencies = 1.0 / base**exponents
    position = torch.arange(positions, dtype=torch.float32, device=device)
    if bf16:
        angles = (position.bfloat16()[:, None] * frequencies.bfloat16()).float()
    else:
        angles = position[:, None] * frequencies
    return torch.cat([angles, angles], dim=-1)


def rope_table(
    grid: tuple[int, int],
    special: int,
    head_dim: int,
    base: float,
    device: torch.device | str,
    bf16: bool = False,
) -> RopeTable:
    """Table for frames of `special` tokens at position (0, 0) and gh x gw patches at (row + 1,
    column + 1).

    The first half of a head's channels turns with y, the second with x.
    """
    rows, columns = grid
    angles = axis_angles(max(grid) + 1, head_dim // 2, base, bf16, device)
    y = angles[1 : rows + 1, None].expand(rows, columns, -1)
    x = angles[None, 1 : columns + 1].expand(rows, columns, -1)
    patches = torch.cat([y, x], dim=-1).flatten(0, 1)
    angles = torch.cat([patches.new_zeros(special, head_dim), patches])
    return RopeTable(angles.cos(), angles.sin())


def apply_rope(tokens: Tensor, table: RopeTable) -> Tensor:
    """Rotate tokens (..., P, head_dim): channel pairs (k, k + m/2) of each half of width m."""
    quarter = tokens.shape[-1] // 4
    a, b, c, d = tokens.split(quarter, dim=-1)
    turned = torch.cat([-b, a, -d, c], dim=-1)
    return tokens * table.cos + turned * table.sin


def uv_embedding(
    height: int,
    width: int,
    channels: int,
    aspect: float,
    device: torch.device | str,
    base: float = 100.0,
) -> Tensor:
    """Sinusoidal map (channels, height, width) of the position within an image of the given aspect
    (W / H).

    Equally spaced coordinates on a diagonal of length 2; sin u, cos u, sin v, cos v in a quarter of
    the channels each, at angular frequencies from 1 towards 1 / base.
    """
    diagonal = math.hypot(aspect, 1.0)
    extent_u = aspect / diagonal
    extent_v = 1.0 / diagonal
    u = torch.linspace(-1, 1, width, dtype=torch.float64, device=device) * (
        extent_u * (width - 1) / width
    )
    v = torch.linspace(-1, 1, height, dtype=torch.float64, device=device) * (
        extent_v * (height - 1) / height
    )
    quarter = channels // 4
    omega = base ** -(torch.arange(quarter, dtype=torch.float64, device=device) / quarter)
    by_u = omega[:, None] * u
    by_v = omega[:, None] * v
    by_u = torch.cat([by_u.sin(), by_u.cos()]).float()[:, None, :].expand(-1, height, width)
    by_v = torch.cat([by_v.sin(), by_v.cos()]).float()[:, :, None].expand(-1, height, width)
    return torch.cat([by_u, by_v])
