"""Several processes that work on one thing, each on its part; torchrun starts them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vggt3_ros.errors import Vggt3Error

_AnyRanks = TypeVar("_AnyRanks", bound="Ranks")
_PATIENCE = timedelta(hours=1)  # the others wait while the first one writes or validates


class Ranks:
    """A process among those that torchrun started; alone without it.

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
            # An optimizer imports it, and its functions have the group that there is by then for a
            # default: `destroy_process_group` would leave the group, and the threads of gloo, to
            # the end of the interpreter, in which they may abort the process.
            importlib.import_module("torch.distributed.nn.functional")
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=_PATIENCE)

    def __enter__(self: _AnyRanks) -> _AnyRanks:
        return self

    def __exit__(self, *error: object) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, count: int, rank: int | None = None) -> slice:
        """Which of `count` things in a row are this process's, or another one's."""
        rank = self.rank if rank is None else rank
        return slice(count * rank // self.world, count * (rank + 1) // self.world)

    def sum(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Tensors added up over all processes, in one message."""
        if self.world == 1:
            return list(parts)
        packed = torch.cat([part.flatten() for part in parts])
        with self._others():
            dist.all_reduce(packed)
        sums = packed.split([part.numel() for part in parts])
        return [total.view_as(part) for total, part in zip(sums, parts, strict=True)]

    def gather(self, share: Tensor, count: int) -> Tensor:
        """The `count` rows of all processes, of which each gives its share."""
        if self.world == 1:
            return share
        whole = share.new_zeros(count, *share.shape[1:])
        whole[self.share(count)] = share
        return self.sum([whole])[0]

    def collect(self, share: Tensor, count: int) -> Tensor:
        """The `count` rows of all processes at the first one; the others keep what they gave. For
        tensors on the CPU.
        """
        if self.world == 1:
            return share
        with self._others():
            if not self.first:
                dist.send(share.contiguous(), 0)
                return share
            whole = share.new_empty(count, *share.shape[1:])
            whole[self.share(count)] = share
            for rank in range(1, self.world):
                dist.recv(whole[self.share(count, rank)], rank)
        return whole

    @contextmanager
    def _others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise Vggt3Error(
                f"process {self.rank} of {self.world} waits for the others in vain: one of them has"
                f" ended, and says why ({str(error).splitlines()[0]})"
            ) from error


def local_rank() -> int | None:
    """Which GPU of its machine a process that torchrun started shall take; None for a process of
    its own.
    """
    return int(os.environ["LOCAL_RANK"]) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
