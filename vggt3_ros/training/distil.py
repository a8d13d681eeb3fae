"""How a converted network starts: every layer learns to answer as its softmax parent's, all layers
at once.

Each gets what the parent's layer gets, so no gradient passes from layer to layer. It is a few
hundred steps where training the whole network on its own errors takes thousands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.ttt_attention import TttAttention


def learn_initial_fast_weights(network: Vggt3) -> None:
    """Unlike the published conversion, whose initial fast weights stay random: distillation gains
    most by it.
    """
    for module in network.modules():
        if isinstance(module, TttAttention):
            module.learn_initial()


def train_global_attention_alone(network: Vggt3) -> None:
    """Freeze everything else: what is published to be trained, and initial fast weights where they
    are learnt.
    """
    network.requires_grad_(False)
    for layer in range(network.config.depth):
        network.aggregator.global_attention(layer).requires_grad_(True)


def distillation_loss(
    student: Vggt3, parent: Vggt3, images: Tensor, map_views: int, steps: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over the layers, and the single ones, of the fraction of the variance that the student's
    answers miss.

    images (B, S, 3, H, W), of which the first `map_views` are learnt from, in `steps`
    test-time-training steps.
    """
    observed: list[tuple[int, Tensor, Tensor]] = []
    with torch.no_grad():
        parent.aggregator(images, map_views, observe=lambda *layer: observed.append(layer))
    aggregator = student.aggregator
    _, first, _ = observed[0]
    scenes = aggregator.scenes(first, map_views, steps, aggregator.grid(images))
    terms = {}
    for layer, tokens, wanted in observed:
        attention = aggregator.global_attention(layer)
        missed = (attention.attend_frames(tokens, scenes) - wanted).float()
        spread = (wanted - wanted.mean((0, 1, 2), keepdim=True)).float()
        terms[f"layer_{layer}"] = missed.square().sum() / spread.square().sum()
    return torch.stack(list(terms.values())).sum(), terms
