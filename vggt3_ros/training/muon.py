"""Muon in the precision of its parameters, all matrices of one shape at once.

torch.optim.Muon iterates in bf16 and matrix by matrix: on processors without bf16 units that took
more time than a whole forward pass of a small network, and on a GPU it is hundreds of tiny
launches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vggt3_ros.model.fast_weights import newton_schulz

_MOMENTUM = 0.95
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov) whose matrices (A, B) are made orthogonal, times 0.2 sqrt(max(A, B)): the
    RMS of AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient, and shrink it by the weight decay."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                directions = newton_schulz(
                    torch.stack([self._momentum(p) for p in parameters]), _STEPS
                )
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(
                        direction, alpha=rate
                    )

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad
        state = self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(average, _MOMENTUM)
