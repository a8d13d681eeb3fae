"""How many scenes and views a step has, and of which size: the same on all machines that share the
work.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vggt3_ros.training.config import TrainConfig


@dataclass(frozen=True)
class StepShape:
    """Scenes, views of each, and the size of their images in pixels."""

    scenes: int
    views: int
    height: int
    width: int


def step_shape(config: TrainConfig, step: int) -> StepShape:
    """The shape of a step, a function of seed and step (published recipe).

    Views are drawn from `fewest_views` to `views`, and as many scenes are taken as fit scenes x
    views images; the aspect is drawn from `aspects`, with the long side of height x width.
    """
    if config.fixed_shape:
        return StepShape(config.scenes, config.views, config.height, config.width)
    generator = torch.Generator().manual_seed(config.seed * 1_000_000_007 + step)
    views = int(torch.randint(config.fewest_views, config.views + 1, (1,), generator=generator))
    height = config.height
    width = config.width
    if config.aspects:
        narrowest, widest = config.aspects
        aspect = narrowest + (widest - narrowest) * float(torch.rand(1, generator=generator))
        long = max(height, width)
        patch = config.model.patch_size
        short = max(patch, patch * round(long * min(aspect, 1 / aspect) / patch))
        height, width = (short, long) if aspect > 1 else (long, short)
    return StepShape(config.scenes * config.views // views, views, height, width)
