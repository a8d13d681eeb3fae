"""Muon for the blocks' matrices, AdamW for the rest, one schedule for both, and a moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vggt3_ros.model.checkpoint import stored_state
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.muon import Muon

_DECAY_FROM = 0.5  # share of a phase after which the rate falls
_FINAL = 0.03  # share of the rate at the end of a phase


class Optimizers:
    """Both optimizers, stepped together; their state is a flat dictionary of tensors, as safetensors wants it.

    They train what requires gradients. rates: of matrices, and of everything else.
    """

    def __init__(self, modules: dict[str, nn.Module], config: TrainConfig, rates: tuple[float, float]) -> None:
        named = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters()}
        self.parameters = named = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
        matrices = {n: p for n, p in named.items() if p.ndim == 2 and "_blocks." in n}
        others = {n: p for n, p in named.items() if n not in matrices}
        decayed = [p for p in others.values() if p.ndim > 1]
        plain = [p for p in others.values() if p.ndim <= 1]
        self.muon = Muon(matrices.values(), lr=rates[0], weight_decay=config.weight_decay)
        self.adamw = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=rates[1],
            betas=(0.9, 0.95),
        )
        self.rates = dict(zip((self.muon, self.adamw), rates, strict=True))
        self.clip = config.clip

    def step(self, factor: float) -> Tensor:
        """Clip the gradients, apply them at `factor` times the configured rates, clear them; returns their norm."""
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        for optimizer, rate in self.rates.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Moments and counters by parameter name."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        return {
            f"{names[parameter]}:{key}": torch.as_tensor(value)
            for optimizer in self.rates
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        for optimizer in self.rates:
            owned = {p for group in optimizer.param_groups for p in group["params"]}
            for full, value in state.items():
                name, key = full.rsplit(":", 1)
                parameter = self.parameters[name]
                if parameter in owned:
                    on_host = key == "step"
                    optimizer.state[parameter][key] = value.clone() if on_host else value.to(parameter.device)


def schedule(step: int, total: int, warmup: int) -> float:
    """Factor of the learning rate within a phase: rise, hold, then fall linearly."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    left = (total - step) / max(1.0, total * (1 - _DECAY_FROM))
    return rise * max(_FINAL, min(1.0, left))


class MovingAverage:
    """Exponential moving average of a network's weights; short-sighted at first, so that it is useful early."""

    def __init__(self, network: Vggt3, decay: float) -> None:
        self.decay = decay
        self.state = {n: t.detach().clone() for n, t in stored_state(network).items()}

    @torch.no_grad()
    def update(self, network: Vggt3, step: int) -> None:
        """Take in the weights after `step` steps of the phase."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in stored_state(network).items():
            self.state[name].lerp_(tensor, 1 - decay)
