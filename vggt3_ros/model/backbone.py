"""Patch embeddings: DINOv2 with registers for the published models, a plain convolutional stem for
small ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.block import Block
from vggt3_ros.model.drawn import drawn
from vggt3_ros.model.rope import uv_embedding

_FINEST = 16.0  # of the stem's position code, in radians per half image diagonal; the coarsest is 1


class PatchProjection(nn.Module):
    """One convolution whose stride is its kernel: a linear map of every patch."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens (N, gh * gw, C), row by row, of normalised images (N, 3, H, W)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DinoBackbone(nn.Module):
    """DINOv2 ViT with register tokens; returns the final layer's normed patch tokens."""

    def __init__(
        self,
        dim: int,
        patch_size: int,
        depth: int,
        num_heads: int,
        registers: int,
        grid: int,
        mask_token: bool,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, dim))
        self.pos_embed = nn.Parameter(drawn(1, 1 + grid * grid, dim, deviation=0.02))
        if mask_token:  # VGGT-1B's checkpoint carries it; nothing reads it
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.patch_embed = PatchProjection(dim, patch_size)
        self.blocks = nn.ModuleList(
            Block(dim, SoftmaxAttention(dim, num_heads), scale=1.0, eps=1e-6) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (N, gh * gw, C) of normalised images (N, 3, H, W)."""
        patches = self.patch_embed(images)
        rows = images.shape[-2] // self.patch_embed.proj.kernel_size[0]
        patches = patches + self._positions(rows, patches.shape[1] // rows)
        count = len(patches)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(count, -1, -1)
        x = torch.cat([first, self.register_tokens.expand(count, -1, -1), patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, -patches.shape[1] :]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The stored grid of position embeddings, resized to rows x columns: (1, rows * columns,
        C), fp32.
        """
        stored = self.pos_embed[:, 1:]
        if rows == columns == self.grid:
            return stored
        image = stored.float().unflatten(1, (self.grid, self.grid)).movedim(-1, 1)
        image = interpolate(
            image, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
        return image.flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """Stride-2 3x3 convolutions down to one token per patch, plus a fixed code of the position in
    the image.

    Overlapping windows serve small models better than one patch-sized kernel (Xiao et al. 2021).
    """

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        stages = int(math.log2(patch_size))
        widths = [3, *(max(32, dim >> (stages - 1 - stage)) for stage in range(stages - 1)), dim]
        layers: list[nn.Module] = []
        for inner, outer in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (N, gh * gw, C) of normalised images (N, 3, H, W)."""
        features = self.proj(images)
        rows, columns = features.shape[-2:]
        tokens = self.norm(features.flatten(2).transpose(1, 2).float())
        aspect = images.shape[-1] / images.shape[-2]
        code = uv_embedding(
            rows, columns, features.shape[1], aspect, images.device, base=1 / _FINEST
        )
        return tokens + code.flatten(1).T
