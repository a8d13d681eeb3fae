"""Several processes train one network, each on scenes of its own; torchrun starts them
(docs/training.md).

All hold the same weights, since they start alike and step with the same averaged gradients; the
first one writes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vggt3_ros.ranks import Ranks


class TrainingRanks(Ranks):
    """A process among those that train together."""

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Average the gradients over all processes, in place; returns the average loss, not finite
        if any is not.
        """
        if self.world == 1:
            return loss.detach()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat(
            [loss.detach().float().reshape(1), *(gradient.flatten() for gradient in gradients)]
        )
        dist.all_reduce(flat)
        flat /= self.world
        parts = flat[1:].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[0]

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all wait for each other here."""
        return self.greatest(float(flag)) > 0

    def greatest(self, value: float) -> float:
        """The greatest value that any process has; all wait for each other here."""
        if self.world == 1:
            return value
        said = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return float(said)
