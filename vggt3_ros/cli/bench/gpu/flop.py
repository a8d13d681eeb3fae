"""Floating-point operations of the network, counted by running it on torch's meta device, which
computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from vggt3_ros.model.anchors import CAMERA_ANCHORS
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3


def count_flop(work: Callable[[], object]) -> int:
    """Two for every multiplication and addition of matrix products, convolutions and attention."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


# Of the published sizes without a point head, at 392 x 518 pixels with two steps: counted by this
# module, which takes seconds. For a map, for each of its frames, and for each pair of them; of the
# pairs, a camera head beside fast weights sees those with anchors.
_PUBLISHED = {
    "ttt": (54_383_382_528, 2_626_407_294_976, 131_072),
    "softmax": (25_202_688, 2_476_491_728_896, 106_530_308_096),
}


def map_flop(config: ModelConfig, frames: int, image_hw: tuple[int, int], steps: int) -> int:
    """Of mapping so many frames, as it is executed: keys and values are computed anew in every
    step.
    """
    if config.attn is not None and (*image_hw, steps) == (392, 518, 2):
        if config == replace(ModelConfig.full(config.attn), point_head=False):
            once, each, pair = _PUBLISHED[config.attn]
            others = frames if config.attn == "softmax" else min(frames, CAMERA_ANCHORS)
            return once + frames * each + frames * others * pair
    with torch.device("meta"):
        network = Vggt3(config).eval().requires_grad_(False)
        images = torch.empty(frames, 3, *image_hw)
    return count_flop(lambda: network.map(images, steps, frames))
