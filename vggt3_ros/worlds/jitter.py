"""What a camera does to light, drawn anew for every image: exposure, colour, blur and noise; lens
and shutter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def photometric_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Jitter images (..., 3, H, W) float in [0, 1], each by itself; returns a new tensor of the
    same shape.

    Exposure changes by a factor 0.65 to 1.5, white balance +-8 % a channel, contrast 0.8 to
    1.2, gamma 0.75 to 1.33, blur (a third of the images) of up to about one pixel, noise of
    standard deviation up to 0.03.
    """
    flat = images.reshape(-1, *images.shape[-3:])
    count = len(flat)
    device = images.device

    def symmetric(channels: int = 1) -> Tensor:
        draw = torch.rand(count, channels, 1, 1, generator=generator, device=generator.device)
        return draw.to(device) * 2 - 1

    exposure = torch.exp(0.42 * symmetric() + 0.08 * symmetric(3))
    out = _blur(flat, symmetric().sub_(0.33).clamp_(min=0).mul_(0.5))
    out = out.mul_(exposure)
    middle = out.mean(dim=(1, 2, 3), keepdim=True)
    out = out.sub_(middle).mul_(1 + 0.2 * symmetric()).add_(middle)
    out = out.clamp_(1e-4, 1).pow_(torch.exp(0.288 * symmetric()))
    noise = torch.randn(
        flat.shape, generator=generator, device=generator.device, dtype=flat.dtype
    ).to(device)
    sigma = symmetric().abs().square_().mul_(0.03)
    return out.addcmul_(noise, sigma.to(out.dtype)).clamp_(0, 1).view(images.shape)


@torch.no_grad()
def lens_and_shutter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (..., 3, H, W) float in [0, 1] as a lens darkens them to its corners and a rolling
    shutter bands them.

    In half of the images corners lose up to half of their light (vignetting); in a third of them
    brightness waves from row to row by up to 15 %, as under lamps that flicker. Returns a new
    tensor of the same shape.
    """
    count = images.shape[:-3].numel()
    device = images.device
    height, width = images.shape[-2:]
    draws = torch.rand(5, count, 1, 1, 1, generator=generator, device=generator.device).to(device)
    row, column = (torch.linspace(-1, 1, size, device=device) for size in (height, width))
    radius = (row[:, None].square() + column.square()) / 2  # 1 in the corners
    darker = 1 - (draws[0] - 0.5).clamp_(min=0) * radius
    waves = torch.sin(2 * math.pi * ((0.5 + 3 * draws[1]) * row[:, None] + draws[2]))
    bands = 1 + 0.15 * draws[3] * waves * (draws[4] < 0.33)
    return (images * (darker * bands).view(*images.shape[:-3], 1, height, width)).clamp_(0, 1)


def _blur(images: Tensor, side: Tensor) -> Tensor:
    """Convolve (N, 3, H, W) with (side, 1 - 2 side, side) along rows and columns; side (N, 1, 1,
    1); returns a copy.
    """
    out = images.clone()
    for dim in (-1, -2):
        size = out.shape[dim]
        forward = torch.cat([out.narrow(dim, 1, size - 1), out.narrow(dim, size - 1, 1)], dim=dim)
        backward = torch.cat([out.narrow(dim, 0, 1), out.narrow(dim, 0, size - 1)], dim=dim)
        out = out.mul_(1 - 2 * side).addcmul_(forward + backward, side)
    return out
