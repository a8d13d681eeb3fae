"""Which device the network runs on."""

from __future__ import annotations

import torch

from vggt3_ros.errors import InputError


def usable_device(name: str | None) -> str:
    """The name of a torch device that works here; None takes the GPU where there is one.

    Raises InputError when the device does not exist here or is neither a CPU nor a CUDA GPU.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name} cannot be used here ({reason}); try cpu") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"device {name} is of a kind that is not supported; give cpu, cuda or cuda:N"
        )
    return name
