"""How alike a keyframe and its neighbours look where a surface is supposed: zero-mean normalised
cross-correlation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vggt3_ros.dense.cameras import Mapping, homogeneous_pixels
from vggt3_ros.dense.windows import box_mean, box_sum

# standard deviation of grey values below which texture is rounding; noise above it is not alike in
# several views
_NOISE = 0.25 / 255
# correlation of a view that does not show the point: between that of a match and that of a mismatch
_ELSEWHERE = 0.4
_BEHIND = 1e-9  # least ratio of depths: what lies behind a view falls far outside its image


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
        best, second = self._two_most_alike(inverse, radius, least=0.0, elsewhere=_ELSEWHERE)
        return best.add_(second).mul_(-0.5).add_(1)

    def evidence(self, inverse: Tensor, radius: int) -> Tensor:
        """Mean correlation (B, D, h, w) at inverse depths (B, D, h, w) of the two most alike views
        that show the point.

        One view does if no second one shows it; -1 where none does.
        """
        best, second = self._two_most_alike(inverse, radius, least=-1.0, elsewhere=-1.0)
        return torch.where(second > -1, (best + second) / 2, best)

    def texture(self, radius: int) -> Tensor:
        """Standard deviation (B, h, w) of grey values in each window of the keyframes."""
        return self._own_moments(radius)[1].sqrt()[:, 0]

    def _own_moments(self, radius: int) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, 1, h, w) of grey values in each window of the keyframes."""
        own = self.reference[:, None]
        mean = box_mean(own, radius)
        return mean, (box_mean(own * own, radius) - mean * mean).clamp_(min=0)

    def _two_most_alike(
        self, inverse: Tensor, radius: int, least: float, elsewhere: float
    ) -> tuple[Tensor, Tensor]:
        """The two largest correlations (B, D, h, w) among the views: each counts as `least` at
        least, and as `elsewhere` where the view does not show the point.
        """
        shape = (*inverse.shape[:2], *self.size_hw)
        best = torch.full(shape, least, device=inverse.device)
        second = torch.full(shape, elsewhere, device=inverse.device)
        for alike, inside in self._correlations(inverse, radius):
            alike.clamp_(min=least).sub_(elsewhere).mul_(inside).add_(elsewhere)
            torch.maximum(second, torch.minimum(best, alike, out=inside), out=second)
            torch.maximum(best, alike, out=best)
        return best, second

    def _correlations(self, inverse: Tensor, radius: int) -> Iterator[tuple[Tensor, Tensor]]:
        """For each view the correlation (B, D, h, w) of its windows with those of the keyframes,
        and 1 where it shows the point, 0 elsewhere.

        Both lie in memory that is written anew for the next view: on a CPU fresh memory costs more
        than this arithmetic.
        """
        height, width = self.size_hw
        shape = (*inverse.shape[:2], height, width)
        memory = torch.empty(6, *shape, device=inverse.device)
        spare, inside, partial, mean, variance, shared = memory
        own = self.reference[:, None]
        own_mean, own_variance = self._own_moments(radius)
        noise = _NOISE * _NOISE
        own_variance += noise
        area = 1 / box_sum(torch.ones(height, width, device=inverse.device), radius)
        for view in range(self.views.shape[1]):
            warped = self._warped(view, inverse, memory[:3])
            box_sum(warped, radius, partial, mean).mul_(area)
            torch.mul(warped, warped, out=spare)
            box_sum(spare, radius, partial, variance).mul_(area).addcmul_(mean, mean, value=-1)
            box_sum(warped.mul_(own), radius, partial, shared).mul_(area)
            shared.addcmul_(mean, own_mean, value=-1)
            variance.clamp_(min=0).add_(noise).mul_(own_variance).rsqrt_()
            yield shared.mul_(variance), inside

    def _warped(self, view: int, inverse: Tensor, memory: Tensor) -> Tensor:
        """One view's grey values (B, D, h, w) at the keyframes' pixels.

        Of memory (3, B, D, h, w) the second becomes 1 where they lie within the view's image, else
        0.
        """
        batch, labels, height, width = memory.shape[1:]
        mapping = self.mapping.scaled_to_grid((height, width))
        pixels = homogeneous_pixels((height, width), self.reference).flatten(1)
        rays = (mapping.turn[:, view] @ pixels).view(batch, 3, 1, height, width)
        shift = mapping.shift[:, view, :, None, None, None]
        column, row, scale = memory
        torch.addcmul(rays[:, 2], inverse, shift[:, 2], out=scale).clamp_(min=_BEHIND).reciprocal_()
        torch.addcmul(rays[:, 0], inverse, shift[:, 0], out=column).mul_(scale)
        torch.addcmul(rays[:, 1], inverse, shift[:, 1], out=row).mul_(scale)
        grid = memory[:2].view(2, batch, labels * height, width).movedim(0, -1)
        warped = grid_sample(
            self.views[:, view, None], grid, padding_mode="border", align_corners=True
        ).view(memory.shape[1:])
        torch.maximum(column.abs_(), row.abs_(), out=row)
        torch.le(row, 1, out=row).mul_(self.usable[:, view, None, None, None])
        return warped.nan_to_num_(0.0)
