"""What a camera does to light: exposure, white balance, contrast, gamma, blur and noise, drawn anew for every image."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def photometric_jitter(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Jitter images (..., 3, H, W) float in [0, 1], each by itself; returns a new tensor of the same shape.

    At strength 1: exposure a factor 0.65 to 1.5, white balance +-8 % a channel, contrast 0.8 to 1.2, gamma 0.75 to
    1.33, blur (a third of the images) of up to about one pixel, noise of standard deviation up to 0.03.
    """
    flat = images.reshape(-1, *images.shape[-3:])
    count, device = len(flat), images.device

    def symmetric(channels: int = 1) -> Tensor:
        draw = torch.rand(count, channels, 1, 1, generator=generator, device=generator.device)
        return (draw.to(device) * 2 - 1).mul_(strength)

    exposure = torch.exp(0.42 * symmetric() + 0.08 * symmetric(3))
    out = _blur(flat, symmetric().sub_(0.33).clamp_(min=0).mul_(0.5))
    out = out.mul_(exposure)
    middle = out.mean(dim=(1, 2, 3), keepdim=True)
    out = out.sub_(middle).mul_(1 + 0.2 * symmetric()).add_(middle)
    out = out.clamp_(1e-4, 1).pow_(torch.exp(0.288 * symmetric()))
    noise = torch.randn(flat.shape, generator=generator, device=generator.device, dtype=flat.dtype).to(device)
    sigma = symmetric().abs().square_().mul_(0.03)
    return out.addcmul_(noise, sigma.to(out.dtype)).clamp_(0, 1).view(images.shape)


def _blur(images: Tensor, side: Tensor) -> Tensor:
    """Convolve (N, 3, H, W) with (side, 1 - 2 side, side) along rows and columns; side (N, 1, 1, 1); returns a copy."""
    out = images.clone()
    for dim in (-1, -2):
        size = out.shape[dim]
        forward = torch.cat([out.narrow(dim, 1, size - 1), out.narrow(dim, size - 1, 1)], dim=dim)
        backward = torch.cat([out.narrow(dim, 0, 1), out.narrow(dim, 0, size - 1)], dim=dim)
        out = out.mul_(1 - 2 * side).addcmul_(forward + backward, side)
    return out
