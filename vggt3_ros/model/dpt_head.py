"""DPT head (Ranftl et al. 2021): from tapped tokens of four layers to a dense map and its
confidence.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from vggt3_ros.model.rope import uv_embedding

_HIDDEN = 32
_POSITION_WEIGHT = 0.1


class ResidualUnit(nn.Module):
    """Two convolutions around a skip that carries ReLU(x), not x: the published weights were
    trained so.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine x (N, C, h, w)."""
        x = relu(x)
        return x + self.conv2(relu(self.conv1(x)))


class FusionBlock(nn.Module):
    """Add a finer level to the coarser result, refine, and enlarge."""

    def __init__(self, channels: int, coarsest: bool) -> None:
        super().__init__()
        self.resConfUnit1 = None if coarsest else ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, fused: Tensor | None, level: Tensor, size: tuple[int, int]) -> Tensor:
        """Fuse level (N, C, h, w) with what the coarser levels gave, and resize to `size`."""
        if fused is not None and self.resConfUnit1 is not None:
            level = fused + self.resConfUnit1(level)
        # a convolution of one pixel and linear interpolation may change places: fewer pixels first
        return _resize(self.out_conv(self.resConfUnit2(level)), size)


class DptHead(nn.Module):
    """Depth (one channel, exp) or points (three channels, inverse log), each with a confidence 1 +
    exp.

    `project` reduces one tapped layer to what `decode` needs of it, so that the wide tokens need
    not be kept.
    """

    def __init__(
        self,
        dim: int,
        patch_size: int,
        features: int,
        out_channels: tuple[int, ...],
        kind: Literal["depth", "points"],
    ) -> None:
        super().__init__()
        self.kind = kind
        self.patch_size = patch_size
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in out_channels)
        c0, c1, _, c3 = out_channels
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c0, c0, 4, stride=4),
                nn.ConvTranspose2d(c1, c1, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(c3, c3, 3, stride=2, padding=1),
            ]
        )
        self.scratch = nn.Module()
        for level, width in enumerate(out_channels, start=1):
            setattr(
                self.scratch,
                f"layer{level}_rn",
                nn.Conv2d(width, features, 3, padding=1, bias=False),
            )
            setattr(self.scratch, f"refinenet{level}", FusionBlock(features, coarsest=level == 4))
        self.scratch.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.scratch.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, _HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_HIDDEN, 2 if kind == "depth" else 4, 1),
        )

    def project(self, patches: Tensor, level: int, grid: tuple[int, int]) -> Tensor:
        """Reduce a tapped layer's patch tokens (N, gh * gw, 2C) to a map (N, width of the level,
        gh, gw).
        """
        image = self.norm(patches).transpose(1, 2).unflatten(2, grid)
        return self.projects[level](image).contiguous()  # tokens come channels last

    def decode(self, projected: list[Tensor]) -> tuple[Tensor, Tensor]:
        """From four projected levels to values (N, H, W) or (N, H, W, 3), and confidence (N, H,
        W).
        """
        rows, columns = projected[0].shape[-2:]
        aspect = columns / rows
        levels = []
        for index, level in enumerate(projected):
            if level.device.type != "cuda":  # convolutions of a CPU are faster so
                level = level.contiguous(memory_format=torch.channels_last)
            scaled = self.resize_layers[index](_add_position(level, aspect))
            levels.append(getattr(self.scratch, f"layer{index + 1}_rn")(scaled))
        fused: Tensor | None = None
        for index in (3, 2, 1, 0):
            size = levels[index - 1].shape[-2:] if index else (8 * rows, 8 * columns)
            fused = getattr(self.scratch, f"refinenet{index + 1}")(
                fused, levels[index], tuple(size)
            )
        fused = _resize(
            self.scratch.output_conv1(fused), (self.patch_size * rows, self.patch_size * columns)
        )
        return self._activate(self.scratch.output_conv2(_add_position(fused, aspect)))

    def _activate(self, out: Tensor) -> tuple[Tensor, Tensor]:
        values = out[:, :-1].float()
        confidence = 1 + out[:, -1].float().exp()
        if self.kind == "depth":
            return values[:, 0].exp(), confidence
        return (values.sign() * values.abs().expm1()).movedim(1, -1), confidence


def _add_position(x: Tensor, aspect: float) -> Tensor:
    rows, columns = x.shape[-2:]
    return x + _POSITION_WEIGHT * uv_embedding(rows, columns, x.shape[1], aspect, x.device).to(
        x.dtype
    )


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return interpolate(x, size=size, mode="bilinear", align_corners=True)
