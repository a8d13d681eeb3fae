"""Our Muon takes the steps of torch's, whose iteration runs in bf16."""

from __future__ import annotations

import torch
from torch import nn

from vggt3_ros.training.muon import Muon


def test_it_steps_as_torch_does_up_to_bf16() -> None:
    torch.manual_seed(0)
    shapes = [(16, 48), (16, 48), (32, 16)]
    ours, theirs = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    optimizers = (
        Muon(ours, lr=0.1, weight_decay=0.2),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() < 0.02 * (b - 1).norm()


def test_what_has_no_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    Muon([parameter], lr=0.1, weight_decay=0.2).step()
    assert torch.equal(parameter, torch.ones(4, 4))
