"""Which frames a map is fitted to, told from their images before the network sees them: those that
show something new. Others are localized in the finished map, which costs no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from vggt3_ros.errors import InputError

RedundantViews = Literal["query", "fit"]
"""What becomes of frames that show nothing new: they are localized in the map of the others, or
mapped with them."""

NOTHING_NEW = 0.2  # distance of descriptors: at 0.3 poses of queries begin to suffer
_SAME_IMAGE = 0.002  # mean difference of pixels, up to which an image is the same: a frozen camera
_CELLS = (12, 16)  # of a descriptor, rows and columns


@dataclass(frozen=True, eq=False)
class Views:
    """Indices of S frames, each in one of three: the map is fitted to `fitted` (F,), ascending, the
    first of all among them; `queried` (Q,) are localized in it; `repeated` (R,) have the same image
    as the fitted frames `repeats` (R,), and are taken to be these.
    """

    fitted: Tensor
    queried: Tensor
    repeated: Tensor
    repeats: Tensor

    @staticmethod
    def all_fitted(count: int) -> Views:
        """The map is fitted to every frame."""
        none = torch.zeros(0, dtype=torch.int64)
        return Views(torch.arange(count), none, none, none)

    @property
    def is_all_fitted(self) -> bool:
        """Whether there are no others."""
        return len(self.queried) + len(self.repeated) == 0

    def report(self) -> dict[str, int]:
        """How many, as plain data for JSON."""
        return {
            "fitted": len(self.fitted),
            "queried": len(self.queried),
            "repeated": len(self.repeated),
        }


def choose_views(images: Tensor, least: int = 2, nothing_new: float = NOTHING_NEW) -> Views:
    """Which of S images (S, 3, h, w) in [0, 1] show something new: the first, and those whose
    descriptor is farther than `nothing_new` from all that were found before; at least `least`.
    Raises InputError where there are fewer images.
    """
    if len(images) < least:
        raise InputError(f"there are {len(images)} images; expected at least {least}")
    order, novelty = by_novelty(descriptors(images))
    count = max(least, int((novelty >= nothing_new).sum()))
    return fitting(images, order[:count])


def fitting(images: Tensor, chosen: Tensor) -> Views:
    """A map of images (S, 3, h, w) that is fitted to those chosen (F,), in any order."""
    images = images.cpu()
    fitted = chosen.sort().values
    is_other = torch.ones(len(images), dtype=torch.bool)
    is_other[fitted] = False
    others = is_other.nonzero()[:, 0]
    described = descriptors(images)
    alike = fitted[torch.cdist(described[others], described[fitted]).argmin(1)]
    difference = (images[others] - images[alike]).abs().mean((1, 2, 3))
    is_same = difference <= _SAME_IMAGE
    return Views(fitted, others[~is_same], others[is_same], alike[is_same])


def descriptors(images: Tensor) -> Tensor:
    """What tells images (S, 3, h, w) apart whatever their exposure, (S, 576): thumbnails of mean
    zero and length 1. Those of images that show nothing are zero.
    """
    thumbnails = adaptive_avg_pool2d(images.cpu(), _CELLS).flatten(1)
    return normalize(thumbnails - thumbnails.mean(1, keepdim=True))


def by_novelty(described: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (S,) of frames with descriptors (S, D), the first one first and then always the
    one that is farthest from all before it; and that distance (S,), infinite for the first.
    """
    order = [0]
    novelty = [torch.inf]
    distance = torch.full((len(described),), torch.inf)
    for _ in range(len(described) - 1):
        last = described[order[-1]]
        distance = torch.minimum(distance, torch.linalg.vector_norm(described - last, dim=1))
        distance[order[-1]] = -1.0
        order.append(int(distance.argmax()))
        novelty.append(float(distance[order[-1]]))
    return torch.tensor(order), torch.tensor(novelty)
