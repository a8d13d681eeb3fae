"""The precision of a network, and autocast as torch has it on some kinds of devices and not on
others, asked about on any.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]

LARGE = 10**8  # weights: such networks were trained in bf16, and fp32 takes twice their time


def chosen_precision(choice: PrecisionChoice, weights: int, device: torch.device) -> Precision:
    """The precision of a network of so many weights on a device. 'auto' takes bf16 for large ones
    on a GPU that multiplies it, fp32 otherwise.
    """
    if choice != "auto":
        return choice
    multiplies = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if multiplies and weights >= LARGE else "fp32"


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type in which matrix products on a device are computed at present; None where autocast is
    off or unknown.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def autocast_to(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products on a device are computed in a precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which what is computed on a device keeps its type."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
