"""Muon for the blocks' matrices, AdamW for the rest or for all, their schedules, a moving average
of the weights.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from vggt3_ros.model.checkpoint import stored_state
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.muon import Muon

_DECAY_FROM = 0.5  # fraction of a phase after which the rate falls
_FINAL = 0.03  # fraction of the rate at the end of a phase
_FIRST = 0.1  # fraction of the rate at the beginning of a phase
# fraction of the rate at the end of the published schedule, in which rise and fall overlap
_COSINE_FINAL = 0.01


class Optimizers:
    """One or two optimizers, stepped together; their state is a flat dictionary of tensors, as
    safetensors wants it.

    They train what requires gradients. `config.optimizer` 'muon' is for the blocks' matrices, with
    AdamW for everything else; 'adamw' is for all. rates: of those matrices, and of everything else.
    """

    def __init__(
        self, modules: dict[str, nn.Module], config: TrainConfig, rates: tuple[float, float]
    ) -> None:
        self.parameters = named = _trained_parameters(modules)
        matrices = [p for n, p in named.items() if p.ndim == 2 and "_blocks." in n]
        others = [p for n, p in named.items() if not (p.ndim == 2 and "_blocks." in n)]
        decay = config.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": decay, "lr": rates[1]},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0, "lr": rates[1]},
        ]
        self.all: list[torch.optim.Optimizer] = []
        if config.optimizer == "muon":
            self.all.append(Muon(matrices, lr=rates[0], weight_decay=decay))
            eps = 1e-8
        else:
            groups.append({"params": matrices, "weight_decay": decay, "lr": rates[0]})
            eps = 1e-6  # as published
        self.all.append(torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=eps))
        every_group = chain.from_iterable(optimizer.param_groups for optimizer in self.all)
        self.rates = [(group, group["lr"]) for group in every_group]
        self.clip = config.clip

    def step(self, factor: float) -> Tensor:
        """Clip the gradients, apply them at `factor` times the configured rates, clear them;
        returns their norm.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        for group, rate in self.rates:
            group["lr"] = rate * factor
        for optimizer in self.all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Moments and counters by parameter name."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        state: dict[str, Tensor] = {}
        for optimizer in self.all:
            for parameter, values in optimizer.state.items():
                for key, value in values.items():
                    state[f"{names[parameter]}:{key}"] = torch.as_tensor(value)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`; what is not trained any more is left out."""
        for optimizer in self.all:
            owned = set(chain.from_iterable(group["params"] for group in optimizer.param_groups))
            for full, value in state.items():
                name, key = full.rsplit(":", 1)
                parameter = self.parameters.get(name)
                if parameter is not None and parameter in owned:
                    on_host = key == "step"
                    optimizer.state[parameter][key] = (
                        value.clone() if on_host else value.to(parameter.device)
                    )


def _trained_parameters(modules: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, as "module.name"."""
    trained: dict[str, nn.Parameter] = {}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                trained[f"{prefix}.{name}"] = parameter
    return trained


def schedule(done: float, config: TrainConfig) -> float:
    """Factor of the learning rate when a fraction `done` of a phase is behind it.

    It rises, holds, then falls linearly; with 'adamw' it is a rise times a cosine.
    """
    rise = _FIRST + (1 - _FIRST) * min(1.0, done / config.warmup) if config.warmup > 0 else 1.0
    if config.optimizer == "adamw":
        along = min(1.0, done / max(1e-9, 1 - config.warmup))
        cosine = _COSINE_FINAL + (1 - _COSINE_FINAL) * (1 + math.cos(math.pi * along)) / 2
        return rise * cosine
    return rise * max(_FINAL, min(1.0, (1 - done) / (1 - _DECAY_FROM)))


class MovingAverage:
    """Exponential moving average of what is trained of a network; short-sighted at first: it is
    useful early.
    """

    def __init__(self, network: Vggt3, decay: float) -> None:
        self.decay = decay
        trained = {
            name for name, parameter in network.named_parameters() if parameter.requires_grad
        }
        self.state = {
            n: t.detach().clone() for n, t in stored_state(network).items() if n in trained
        }

    @torch.no_grad()
    def update(self, network: Vggt3, step: int) -> None:
        """Take in the weights after `step` steps of the phase."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = stored_state(network)
        torch._foreach_lerp_(
            list(self.state.values()), [current[name] for name in self.state], 1 - decay
        )

    def of(self, network: Vggt3) -> dict[str, Tensor]:
        """The stored state of the network with averages where there are any."""
        return {**stored_state(network), **self.state}
