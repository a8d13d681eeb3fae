"""How alike a keyframe and its neighbours look where a surface is supposed: zero-mean normalised
cross-correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vggt3_ros.dense.cameras import Mapping, homogeneous_pixels
from vggt3_ros.dense.windows import box_mean, box_sum

# standard deviation of grey values below which texture is rounding; noise above it is not alike in
# several views
_NOISE = 0.25 / 255
# cost of a view that does not show the point: between that of a match and that of a mismatch
_OUTSIDE = 0.6


@dataclass(frozen=True, eq=False)
class Matching:
    """Grey images (B, h, w) of keyframes and (B, V, h, w) of their neighbours, of which `usable`
    (B, V) exist.
    """

    reference: Tensor
    views: Tensor
    usable: Tensor
    mapping: Mapping

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.reference.shape[1], self.reference.shape[2]

    def cost(self, inverse: Tensor, radius: int) -> Tensor:
        """Mean of 1 - correlation (at most 1) of the two most alike views: (B, D, h, w).

        inverse: inverse depth (B, D, h, w) or (B, D, 1, 1), 1/m. Windows follow it as they are
        warped, so that it is best parallel to the surface. A view that does not show the point
        counts as neither alike nor unlike.
        """
        best = second = None
        for view in range(self.views.shape[1]):
            likeness, inside = self.likeness(view, inverse, radius)
            cost = torch.where(inside, 1 - likeness, _OUTSIDE).clamp_(max=1.0)
            if best is None or second is None:
                best = cost
                second = torch.full_like(cost, _OUTSIDE)
            else:
                second = torch.minimum(second, torch.maximum(best, cost))
                best = torch.minimum(best, cost)
        assert best is not None and second is not None
        return (best + second).mul_(0.5)

    def evidence(self, inverse: Tensor, radius: int) -> Tensor:
        """Mean correlation (B, D, h, w) at inverse depths (B, D, h, w) of the two most alike views
        that show the point.

        One view does if no second one shows it; -1 where none does.
        """
        best = torch.full_like(inverse, -1.0)
        second = best.clone()
        shown = torch.zeros_like(inverse)
        for view in range(self.views.shape[1]):
            likeness, inside = self.likeness(view, inverse, radius)
            likeness = torch.where(inside, likeness, -1.0)
            second = torch.maximum(second, torch.minimum(best, likeness))
            best = torch.maximum(best, likeness)
            shown += inside
        return torch.where(shown > 1, (best + second) / 2, best)

    def texture(self, radius: int) -> Tensor:
        """Standard deviation (B, h, w) of grey values in each window of the keyframes."""
        mean = box_mean(self.reference, radius)
        return (box_mean(self.reference * self.reference, radius) - mean * mean).clamp(min=0).sqrt()

    def likeness(self, view: int, inverse: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """Correlation (B, D, h, w) of windows with one view, and where the view shows the point."""
        warped, inside = self._warped(view, inverse)
        height, width = self.reference.shape[-2:]
        area = 1 / box_sum(torch.ones(height, width, device=warped.device), radius)
        own = self.reference[:, None]
        own_mean = box_sum(own, radius) * area
        own_variance = box_sum(own * own, radius) * area - own_mean * own_mean
        mean = box_sum(warped, radius).mul_(area)
        variance = box_sum(warped * warped, radius).mul_(area).addcmul_(mean, mean, value=-1)
        shared = box_sum(warped.mul_(own), radius).mul_(area).addcmul_(mean, own_mean, value=-1)
        floor = _NOISE * _NOISE
        scale = variance.clamp_(min=0).add_(floor).mul_(own_variance.clamp(min=0) + floor).rsqrt_()
        return shared.mul_(scale), inside

    def _warped(self, view: int, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """One view's grey values (B, D, h, w) at the reference's pixels, and where they lie within
        its image.
        """
        batch, height, width = self.reference.shape
        mapping = self.mapping.scaled_to_grid((height, width))
        pixels = homogeneous_pixels((height, width), self.reference).flatten(1)
        rays = (mapping.turn[:, view] @ pixels).view(batch, 3, 1, height, width)
        shift = mapping.shift[:, view, :, None, None, None]
        ratio = rays[:, 2] + inverse * shift[:, 2]
        scale = 1 / ratio
        grid = torch.empty((*ratio.shape, 2), device=ratio.device)
        for axis in range(2):
            torch.mul(rays[:, axis] + inverse * shift[:, axis], scale, out=grid[..., axis])
        inside = (grid.abs().amax(-1) <= 1) & (ratio > 0) & self.usable[:, view, None, None, None]
        warped = grid_sample(
            self.views[:, view, None], grid.flatten(1, 2), padding_mode="border", align_corners=True
        ).view(ratio.shape)
        return warped.nan_to_num_(0.0), inside
