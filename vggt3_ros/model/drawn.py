"""Random weights that a network begins with."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(*shape: int, deviation: float) -> Tensor:
    """Normally distributed numbers of that standard deviation. On meta, where nothing is held, none
    are drawn: torch would load its compiler for it, which takes a second.
    """
    numbers = torch.empty(*shape)
    return numbers if numbers.is_meta else numbers.normal_(std=deviation)
