"""What a measurement ran on, for its report."""

from __future__ import annotations

import platform


def device_name(device: str) -> str:
    """The GPU's name, or the processor's architecture as in "cpu (x86_64)"."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
