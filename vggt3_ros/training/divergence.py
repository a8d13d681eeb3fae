"""Whether training has diverged, noted at every step without waiting for the device, and asked now
and then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.errors import Vggt3Error


class DivergenceWatch:
    """Keeps on the device the first step of a phase whose loss is not finite, with its terms."""

    def __init__(self, device: torch.device) -> None:
        self._step = torch.full((), -1, dtype=torch.long, device=device)
        self._terms: Tensor | None = None
        self._names: list[str] = []

    def see(self, step: int, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Take note of a step's loss and its terms, all 0-dim."""
        now = torch.stack([term.detach().float() for term in terms.values()])
        before = now if self._terms is None else self._terms
        fresh = (self._step < 0) & ~torch.isfinite(loss)
        self._terms = torch.where(self._step < 0, now, before)
        self._names = list(terms)
        self._step = torch.where(fresh, step, self._step)

    def check(self) -> None:
        """Wait for the device. Raises Vggt3Error when the loss of any step so far was not
        finite.
        """
        step = int(self._step)
        if step >= 0 and self._terms is not None:
            parts = dict(zip(self._names, self._terms.tolist(), strict=True))
            raise Vggt3Error(
                f"training diverged at step {step} ({parts}); lower the rates of this phase"
            )
