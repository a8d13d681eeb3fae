"""Whether a reconstruction fits into memory, and how, asked before it is begun."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.streaming import Resident

_CGROUP = Path("/sys/fs/cgroup")
_CHUNK = {"cpu": 8, "cuda": 32}  # frames that keep a device busy; more take memory alone
# at least so many keep a GPU busy, for which everything else may leave it
_LEAST: dict[Resident, int] = {"all": 8, "none": 1}


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


def bytes_within(device: torch.device, budget: int | None, limit: int | None) -> int | None:
    """What may be allocated on a device: what the system says is available, or `limit` in place of
    it, and not more than a budget; None where nothing tells.
    """
    there = available_bytes(device) if limit is None else limit
    return min((each for each in (there, budget) if each is not None), default=None)


class MapFit(NamedTuple):
    """Frames that pass together when a network maps, and what stays on its device of each."""

    chunk: int
    resident: Resident


def fit_map(
    network: Vggt3,
    frames: int,
    size_hw: tuple[int, int],
    chunk: int | None = None,
    limit_bytes: int | None = None,
    pointmap: bool = True,
    queried: int = 0,
    anchors: int | None = None,
) -> MapFit:
    """How the network maps `frames` images of this size, in the fastest way that memory permits.

    The chunk that is given, otherwise 8 on a CPU and 32 on a GPU, or fewer. Where memory is short,
    a GPU leaves what it keeps of frames in the host's memory; on a CPU, frames pass once
    more, with the fitted scene, instead of being kept for the heads.

    limit_bytes replaces what the system says is available on the network's device. pointmap and
    anchors: as for Vggt3.map. queried: images that are localized in the map afterwards, and whose
    predictions are kept beside the map's. Raises InputError, with figures, if there is too little.
    """
    device = network.device
    available = available_bytes(device) if limit_bytes is None else limit_bytes
    chosen = chunk or _CHUNK.get(device.type, 8)
    if available is None:
        return MapFit(chosen, "all")
    if device.type == "cpu":  # they are copied once when all are put in order
        available -= 2 * queried * network.kept_bytes(*size_hw, "stream", pointmap)["maps"]
    for resident in _residents(network):
        least = chosen if chunk else _LEAST[resident] if device.type == "cuda" else 1
        for size in _halves(chosen, least):
            needed = network.map_bytes(frames, *size_hw, size, resident, pointmap, anchors)
            if needed <= available:
                if resident == "none":
                    _check_host(network, frames, size_hw, pointmap)
                return MapFit(size, resident)

    def needed_by(count: int) -> int:
        return network.map_bytes(count, *size_hw, size, resident, pointmap, anchors)

    raise InputError(_too_little(device, frames, size_hw, size, needed_by, max(0, available)))


def _residents(network: Vggt3) -> list[Resident]:
    """What may stay on the device of every frame, the fastest first."""
    if network.device.type == "cuda":
        return ["all", "none"]
    return ["all"] if "softmax" in network.config.global_kinds else ["all", "stream"]


def _halves(most: int, least: int) -> Iterator[int]:
    while most >= least:
        yield most
        most //= 2


def _check_host(network: Vggt3, frames: int, size_hw: tuple[int, int], pointmap: bool) -> None:
    """Raise InputError where the host's memory does not hold what a GPU leaves in it."""
    kept = network.kept_bytes(*size_hw, "all", pointmap).values()
    # page-locked memory is taken in powers of two
    needed = sum(1 << (frames * each - 1).bit_length() for each in kept)
    available = available_bytes(torch.device("cpu"))
    if available is not None and needed > available:
        raise InputError(
            f"mapping {frames} frames of {size_hw[1]}x{size_hw[0]} pixels fits on"
            f" {network.device} only if {_gigabytes(needed)} are left in the host's memory, of"
            f" which {_gigabytes(available)} are available; use fewer frames"
        )


def _too_little(
    device: torch.device,
    frames: int,
    size_hw: tuple[int, int],
    chunk: int,
    needed: Callable[[int], int],
    available: int,
) -> str:
    grows = needed(frames) - needed(frames - 1)  # by each frame, chunk and anchors being there
    fitting = frames - math.ceil((needed(frames) - available) / grows) if grows else 0
    if fitting >= chunk:
        advice = f"give at most {fitting} frames, or "
    else:
        smaller = ["a smaller chunk"] * (chunk > 1) + ["fewer frames"] * (grows > 0)
        advice = f"use {' and '.join(smaller)}, or " if smaller else ""
    return (
        f"mapping {frames} frames of {size_hw[1]}x{size_hw[0]} pixels needs about"
        f" {_gigabytes(needed(frames))} of memory on {device}, {_gigabytes(available)} are"
        f" available; {advice}use a network with smaller images or a machine with more memory"
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
