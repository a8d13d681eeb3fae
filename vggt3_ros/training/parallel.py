"""Several processes train one network, each on scenes of its own; torchrun starts them
(docs/training.md).

All hold the same weights, since they start alike and step with the same averaged gradients; the
first one writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(hours=1)  # the others wait while the first one validates


class Ranks:
    """A process among those that train together; alone unless torchrun started it.

    Use it as a context manager: leaving it ends the connection. The device says to the library that
    connects them: nccl between GPUs, gloo between CPUs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.world > 1 else 0
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # which events and pinned memory go by
        if self.world > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *error: object) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

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


def local_rank() -> int | None:
    """Which GPU of its machine a process that torchrun started shall take; None for a process of
    its own.
    """
    return int(os.environ["LOCAL_RANK"]) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
