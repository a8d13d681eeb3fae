"""How a small network starts, and how a trained softmax network becomes a test-time-training
one.
"""

from __future__ import annotations

import torch
from torch import nn

from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.block import Block
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.global_attention import GatedAttention
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.ttt_attention import ShortConv, TttAttention

_INITIAL_FAST_WEIGHTS = 0.5  # of their published deviation, where they are learnt from nothing


@torch.no_grad()
def initialise(network: Vggt3) -> None:
    """Start values for training from nothing: full residual branches with small outputs, k tied to
    q in global layers.

    With q = k, tokens that look alike attend to one another from the first step; the matching loss
    goes on from there.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5 / 1.2)
            nn.init.zeros_(module.bias)
        if isinstance(module, Block):
            module.ls1.gamma.fill_(1.0)
            module.ls2.gamma.fill_(1.0)
            for attn in module.attn.modules():
                if isinstance(attn, SoftmaxAttention | TttAttention):
                    attn.proj.weight.mul_(0.1)
            module.mlp.fc2.weight.mul_(0.1)
    dim = network.config.embed_dim
    for module in network.aggregator.global_blocks.modules():
        if isinstance(module, SoftmaxAttention | TttAttention):
            module.qkv.weight[dim : 2 * dim] = module.qkv.weight[:dim]
        if isinstance(module, TttAttention):
            _start(module)
            for part in module.initial:
                part.mul_(_INITIAL_FAST_WEIGHTS)
    nn.init.normal_(network.aggregator.camera_token, std=0.5)
    nn.init.normal_(network.aggregator.register_token, std=0.5)
    network.camera_head.pose_branch.fc2.weight.mul_(0.1)
    # unturned, 57 by 74 degrees wide
    plain_camera = torch.tensor([0, 0, 0, 0, 0, 0, 1.0, 1.0, 1.3])
    # The head adds this bias once per iteration, so the last one arrives at the plain camera.
    network.camera_head.pose_branch.fc2.bias.copy_(plain_camera / network.camera_head.iterations)


@torch.no_grad()
def convert(parent: Vggt3, config: ModelConfig) -> Vggt3:
    """A network of `config`, with fast weights in some or all global layers, with everything of its
    softmax parent that it can take (arXiv 2602.23361).

    Fast weights, rates and short convolution start anew (the convolution as identity); q/k norms
    are dropped where there are fast weights alone.
    """
    network = Vggt3(config, parent.precision)
    inherited = dict(parent.state_dict())
    for layer in range(config.depth):
        attn = network.aggregator.global_attention(layer)
        if isinstance(attn, GatedAttention):
            prefix = f"aggregator.global_blocks.{layer}.attn."
            for name in [name for name in inherited if name.startswith(prefix)]:
                part = name.removeprefix(prefix)
                inherited[f"{prefix}anchored.{part}"] = inherited[name]
                inherited[f"{prefix}fast.{part}"] = inherited.pop(name)
    names = network.state_dict().keys()
    taken = {name: tensor for name, tensor in inherited.items() if name in names}
    network.load_state_dict(taken, strict=False)
    for module in network.modules():
        if isinstance(module, TttAttention):
            _start(module)
    return network.to(parent.device)


def _start(attn: TttAttention) -> None:
    """Rates at their offset, and short convolution as identity."""
    nn.init.zeros_(attn.lr_fc.weight)
    nn.init.zeros_(attn.lr_fc.bias)
    for conv in attn.short_conv_qkv:
        if isinstance(conv, ShortConv):
            kernel = conv.conv.weight
            kernel.zero_()
            kernel[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2] = 1.0


@torch.no_grad()
def follow(student: Vggt3, before: Vggt3, after: Vggt3) -> Vggt3:
    """A network converted from a parent as it was before, changed as that parent has changed by
    training since.

    Weights that both have move by the parent's difference; fast weights, rates and convolution
    stay. Changes student; all three are on one device.
    """
    old, new = (parent.state_dict() for parent in (before, after))
    for name, tensor in student.state_dict().items():
        if name in old:
            tensor += new[name] - old[name]
    return student
