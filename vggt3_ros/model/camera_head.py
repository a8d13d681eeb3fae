"""Camera head: from the camera tokens of all frames to poses and fields of view, refined
iteratively.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.block import Block, Mlp


class CameraHead(nn.Module):
    """Four rounds of: modulate the tokens by the current estimate, attend between frames, correct
    the estimate.
    """

    def __init__(self, dim: int, num_heads: int, depth: int, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.token_norm = nn.LayerNorm(dim)
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, 9))
        self.embed_pose = nn.Linear(9, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.trunk = nn.ModuleList(
            Block(dim, SoftmaxAttention(dim, num_heads)) for _ in range(depth)
        )
        self.pose_branch = Mlp(dim, dim // 2, 9)

    def forward(self, tokens: Tensor, wanted: int | None = None) -> Tensor:
        """Pose encodings (iterations, B, S, 9) of camera tokens (B, S, 2C).

        With `wanted`, the answer of the last iteration holds only the last `wanted` frames, (1, B,
        wanted, 9): map frames are then carried along only as far as they influence those (all
        attend to all until the last block).
        """
        calls = self.iterations * len(self.trunk)

        def attend(call: int, block: Block, x: Tensor) -> Tensor:
            return self._last_block(x, wanted) if call == calls - 1 else block(x)

        answers = self._answers(tokens, attend)
        return _encodings(answers if wanted is None else answers[-1:])

    def forward_anchored(self, tokens: Tensor, anchors: Tensor) -> Tensor:
        """As `forward`, linear in S: anchors (K,) attend to each other, every other frame to them
        and itself.
        """
        if len(anchors) == tokens.shape[1]:
            return self(tokens)
        keys_values: list[tuple[Tensor, Tensor]] = []

        def among_anchors(call: int, block: Block, x: Tensor) -> Tensor:
            q, k, v = block.attn.project(block.norm1(x))
            keys_values.append((k, v))
            return block.finish(x, block.attn.attend(q, k, v))

        def to_anchors(call: int, block: Block, x: Tensor) -> Tensor:
            attended = block.attn.attend_others_and_self(block.norm1(x), *keys_values[call])
            return block.finish(x, attended)

        is_other = torch.ones(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        is_other[anchors] = False
        encodings = tokens.new_empty(self.iterations, *tokens.shape[:2], 9)
        encodings[:, :, anchors] = _encodings(self._answers(tokens[:, anchors], among_anchors))
        encodings[:, :, is_other] = _encodings(self._answers(tokens[:, is_other], to_anchors))
        return encodings

    def _answers(
        self, tokens: Tensor, attend: Callable[[int, Block, Tensor], Tensor]
    ) -> list[Tensor]:
        """Raw estimates (B, S, 9) after each iteration; attend(call, block, x) applies the block of
        the trunk that is called as the `call`-th of all iterations.
        """
        tokens = self.token_norm(tokens)
        normed = layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        estimate: Tensor | None = None
        answers = []
        for iteration in range(self.iterations):
            known = self.empty_pose_tokens if estimate is None else estimate.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(known)).chunk(3, dim=-1)
            x = gate * (normed * (1 + scale) + shift) + tokens
            for number, block in enumerate(self.trunk):
                assert isinstance(block, Block)
                x = attend(iteration * len(self.trunk) + number, block, x)
            delta = self.pose_branch(self.trunk_norm(x))
            estimate = delta if estimate is None else estimate[:, -delta.shape[1] :] + delta
            answers.append(estimate)
        return answers

    def _last_block(self, x: Tensor, wanted: int | None) -> Tensor:
        """The trunk's last block, for the last `wanted` frames of x (B, S, 2C) only, when given."""
        block = self.trunk[-1]
        if wanted is None:
            return block(x)
        return block.finish(x[:, -wanted:], block.attn.attend_last(block.norm1(x), wanted))


def _encodings(answers: list[Tensor]) -> Tensor:
    """Pose encodings (iterations, B, S, 9) of raw estimates: fields of view are not negative."""
    return torch.stack([torch.cat([e[..., :7], e[..., 7:].relu()], dim=-1) for e in answers])
