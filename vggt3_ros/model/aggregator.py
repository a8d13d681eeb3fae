"""The alternating stack: tokens of every frame, mixed within frames and across frames in turn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vggt3_ros.model.anchors import SceneFrames, choose_anchors, frame_tokens
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.backbone import ConvStem, DinoBackbone
from vggt3_ros.model.block import Block
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.drawn import drawn
from vggt3_ros.model.global_attention import AnyGlobalAttention, build_global_attention
from vggt3_ros.model.rope import RopeTable, rope_table

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

Observer = Callable[[int, Tensor, Tensor], None]


class Aggregator(nn.Module):
    """Patch embedding, special tokens and the pairs of frame block and global block.

    It holds the parts; in which order frames pass through them is decided by whoever drives it: all
    at once when training (`forward`), chunk by chunk in the network's `map` and `query`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        heads = config.num_heads
        self.camera_token = nn.Parameter(drawn(1, 2, 1, dim, deviation=1e-6))
        self.register_token = nn.Parameter(
            drawn(1, 2, config.num_register_tokens, dim, deviation=1e-6)
        )
        self.patch_embed: nn.Module
        if config.patch_embedding == "conv":
            self.patch_embed = ConvStem(dim, config.patch_size)
        else:
            self.patch_embed = DinoBackbone(
                dim,
                config.patch_size,
                config.dino_depth,
                config.dino_num_heads,
                config.num_register_tokens,
                config.pos_embed_grid,
                mask_token=config.attn == "softmax",
            )
        self.frame_blocks = nn.ModuleList(
            Block(dim, SoftmaxAttention(dim, heads, qk_norm=True)) for _ in range(config.depth)
        )
        self.global_blocks = nn.ModuleList(
            Block(dim, build_global_attention(config, layer)) for layer in range(config.depth)
        )
        self.register_buffer("mean", torch.empty(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.empty(3, 1, 1), persistent=False)
        self.fill_constants()

    def fill_constants(self) -> None:
        """Set what no file of weights holds: mean and deviation of the pixels that the network was
        trained on.
        """
        self.mean = torch.tensor(_MEAN).view(3, 1, 1)
        self.std = torch.tensor(_STD).view(3, 1, 1)

    @property
    def special(self) -> int:
        """Tokens before the patches of every frame: camera token and registers."""
        return 1 + self.config.num_register_tokens

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch rows and columns (gh, gw) of images (..., H, W)."""
        return images.shape[-2] // self.config.patch_size, images.shape[
            -1
        ] // self.config.patch_size

    def rope(self, grid: tuple[int, int], bf16: bool) -> RopeTable:
        """Rotary table for one frame's P tokens."""
        head_dim = self.config.embed_dim // self.config.num_heads
        device = self.camera_token.device
        return rope_table(grid, self.special, head_dim, self.config.rope_freq, device, bf16)

    def global_block(self, layer: int) -> Block:
        """The block that mixes frames in a layer."""
        block = self.global_blocks[layer]
        assert isinstance(block, Block)
        return block

    def global_attention(self, layer: int) -> AnyGlobalAttention:
        """The attention between frames of a layer."""
        attn = self.global_block(layer).attn
        assert isinstance(attn, AnyGlobalAttention)
        return attn

    def embed(self, images: Tensor, reference: bool) -> Tensor:
        """Tokens (S, P, C) of images (S, 3, H, W) in [0, 1]; with `reference`, frame 0 gets the
        reference tokens.
        """
        patches = self.patch_embed((images - self.mean) / self.std).float()
        variants = torch.ones(len(images), dtype=torch.long, device=images.device)
        if reference:
            variants[0] = 0
        return torch.cat(
            [self.camera_token[0, variants], self.register_token[0, variants], patches], dim=1
        )

    def scenes(self, normed: Tensor, mapped: int, steps: int, grid: tuple[int, int]) -> SceneFrames:
        """How the frames of a batch of scenes see each other; normed (B, S, P, C) is what the first
        global layer gets.
        """
        count = min(mapped, self.config.anchors.count)
        with torch.no_grad():
            anchors = [choose_anchors(x, count) for x in frame_tokens(normed[:, :mapped])]
        return SceneFrames(mapped, torch.stack(anchors), steps, self.rope(grid, bf16=False), grid)

    def forward(
        self,
        images: Tensor,
        map_frames: int | None = None,
        steps: int = 1,
        observe: Observer | None = None,
    ) -> list[Tensor]:
        """Tapped tokens [frame, global], four of (B, S, P, 2C), of a batch of scenes (B, S, 3, H,
        W), for training.

        The first `map_frames` frames (default all) are what the others see: fast weights are fitted
        on them alone, softmax attends to them or to anchors among them alone. Differentiable
        throughout, the fitting included. observe(layer, normed tokens, attention output), both
        (B, S, P, C), is told what goes into every global attention, and what comes out.
        """
        batch, frames = images.shape[:2]
        mapped = frames if map_frames is None else map_frames
        grid = self.grid(images)
        tapped = []
        rope = self.rope(grid, bf16=False)
        variants = (torch.arange(frames, device=images.device) > 0).long()
        patches = self.patch_embed(((images - self.mean) / self.std).flatten(0, 1)).float()
        special = torch.cat(
            [self.camera_token[0, variants], self.register_token[0, variants]], dim=1
        )
        tokens = torch.cat(
            [special.expand(batch, -1, -1, -1), patches.unflatten(0, (batch, frames))], dim=2
        )
        scenes = None
        for layer in range(self.config.depth):
            within = self.frame_blocks[layer](tokens, rope)
            block = self.global_block(layer)
            normed = block.norm1(within)
            if scenes is None:
                scenes = self.scenes(normed, mapped, steps, grid)
            attended = self.global_attention(layer).attend_frames(normed, scenes)
            if observe is not None:
                observe(layer, normed, attended)
            tokens = block.finish(within, attended)
            if layer in self.config.intermediate_layers:
                tapped.append(torch.cat([within, tokens], dim=-1))
        return tapped
