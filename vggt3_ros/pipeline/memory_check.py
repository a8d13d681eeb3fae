"""Whether a reconstruction fits into memory, and how, asked before it is begun."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3

_CGROUP = Path("/sys/fs/cgroup")
_CHUNK = {"cpu": 8, "cuda": 32}  # frames that keep a device busy; more take memory alone


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be allocated on a device, or None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type != "cpu":
        return None
    known = [value for value in (_system_bytes(), _container_bytes()) if value is not None]
    return min(known, default=None)


def fitting_chunk(
    network: Vggt3,
    frames: int,
    size_hw: tuple[int, int],
    chunk: int | None = None,
    limit_bytes: int | None = None,
) -> int:
    """How many frames may pass the network together when it maps `frames` images of this size: the
    chunk that is given, otherwise 8 on a CPU and 32 on a GPU, or fewer where memory permits no
    more.

    limit_bytes replaces what the system says is available. Raises InputError, with figures, if
    there is too little.
    """
    available = available_bytes(network.device) if limit_bytes is None else limit_bytes
    chosen = chunk or _CHUNK.get(network.device.type, 8)
    if available is None:
        return chosen
    while (needed := network.map_bytes(frames, *size_hw, chunk=chosen)) > available:
        if chunk is not None or chosen == 1:
            raise InputError(_too_little(network, frames, size_hw, chosen, needed, available))
        chosen //= 2
    return chosen


def _too_little(
    network: Vggt3,
    frames: int,
    size_hw: tuple[int, int],
    chunk: int,
    needed: int,
    available: int,
) -> str:
    least, more = (network.map_bytes(count, *size_hw, chunk=chunk) for count in (chunk, chunk + 1))
    fitting = int(chunk + (available - least) / (more - least))
    advice = (
        f"give at most {fitting} frames"
        if fitting >= chunk
        else "use a smaller chunk and fewer frames"
        if chunk > 1
        else "use fewer frames"
    )
    return (
        f"mapping {frames} frames of {size_hw[1]}x{size_hw[0]} pixels needs about"
        f" {_gigabytes(needed)} of memory on {network.device}, {_gigabytes(available)} are"
        f" available; {advice}, or use a network with smaller images or a machine with more memory"
    )


def _system_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _container_bytes() -> int | None:
    """What a container's limit leaves (cgroup version 2)."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is none
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (_CGROUP / "memory.stat").read_text().split()
        cache = int(statistics[statistics.index("inactive_file") + 1])
    except (OSError, ValueError):
        return None
    return limit - used + cache


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
