"""Anchors: few frames of a scene that differ most, among them the reference frame. Layers attend to
their keys and values alone, so that their cost is linear in the frames and a scene's size bounded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from vggt3_ros.model.rope import RopeTable

CAMERA_ANCHORS = 32
"""Frames whose camera tokens the others attend to in the camera head; maps of no more frames are
exact.
"""


class AnchorKeys(NamedTuple):
    """Keys and values (heads, N, d) of the chosen tokens of all anchors."""

    keys: Tensor
    values: Tensor


class SceneFrames(NamedTuple):
    """How the frames of a batch of scenes see each other while a network trains: the first `mapped`
    are seen, the `anchors` (B, K) are among them; fast weights take `steps`.
    """

    mapped: int
    anchors: Tensor
    steps: int
    rope: RopeTable
    grid: tuple[int, int]


def frame_tokens(normed: Tensor) -> Tensor:
    """What tells frames apart, (..., S, C), of what the first global layer gets, (..., S, P, C)."""
    return normed.mean(-2)


def choose_anchors(tokens: Tensor, count: int = CAMERA_ANCHORS) -> Tensor:
    """Indices (K,) in ascending order of at most `count` of S frames, told apart by a token of each
    (S, C): the first, which is the reference, then always the one farthest from all chosen.
    """
    if len(tokens) <= count:
        return torch.arange(len(tokens), device=tokens.device)
    normed = layer_norm(tokens, tokens.shape[-1:])
    last = torch.zeros((), dtype=torch.int64, device=tokens.device)
    chosen = [last]
    distance = torch.full((len(tokens),), torch.inf, device=tokens.device)
    for _ in range(count - 1):
        apart = (normed - normed.index_select(0, last[None])).square().sum(-1)
        distance = torch.minimum(distance, apart).index_fill(0, last, -1.0)
        last = distance.argmax()
        chosen.append(last)
    return torch.stack(chosen).sort().values


def chosen_tokens(grid: tuple[int, int], tokens: int, stride: int) -> slice | Tensor:
    """Which of a frame's tokens are kept of an anchor: the special ones, before the patches, and
    each `stride`-th row and column of patches; of stride 0 the special ones alone.
    """
    special = tokens - grid[0] * grid[1]
    if stride == 0:
        return slice(special)
    if stride == 1:
        return slice(None)
    patches = torch.arange(special, tokens).view(grid)
    return torch.cat([torch.arange(special), patches[::stride, ::stride].flatten()])
