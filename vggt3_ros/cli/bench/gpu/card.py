"""Step `card`: which card it is, and its ceilings, which all other figures are held against."""

from __future__ import annotations

import importlib
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vggt3_ros import __version__
from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread


def run(bench: Bench) -> None:
    """Describe the machine, then measure a copy, matrix products, and what starting a kernel
    costs.
    """
    machine = _machine(bench.device)
    bench.record("machine", f"{machine['card']}, torch {machine['torch']}", **machine)
    bench.attempt("copy", partial(_copy, bench))
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ):
        bench.attempt(name, partial(_product, bench, name, dtype, tf32))
    bench.attempt("launch", partial(_launch, bench))


def _machine(device: torch.device) -> dict[str, Any]:
    described: dict[str, Any] = {
        "card": f"cpu ({platform.machine()})",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "package": __version__,
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        **_host_memory(),
    }
    for name in ("triton", "numpy"):
        try:
            described[name] = importlib.import_module(name).__version__
        except ImportError:
            described[name] = None
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        described |= {
            "card": card.name,
            "capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "cache_bytes": getattr(card, "L2_cache_size", None),
            "memory_bytes": total,
            "free_bytes": free,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return described


def _host_memory() -> dict[str, int]:
    """Bytes of the host, all and available, where Linux tells them."""
    named = {"MemTotal": "host_bytes", "MemAvailable": "host_available_bytes"}
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    said = dict(line.split(":", 1) for line in lines)
    return {ours: 1024 * int(said[n].split()[0]) for n, ours in named.items() if n in said}


def _commit() -> str | None:
    """What is measured, where git knows it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


def _copy(bench: Bench) -> None:
    """Read and write; the buffers are far larger than any cache."""
    count = bench.sizes.copied_bytes
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    seconds, spread = median_and_spread(bench.seconds(lambda: target.copy_(source)))
    rate = 2 * count / seconds
    bench.record(
        "copy",
        f"{rate / 1e12:.3f} TB/s read and written",
        seconds=seconds,
        spread=spread,
        bytes=2 * count,
        rate=rate,
    )


def _product(bench: Bench, name: str, dtype: torch.dtype, tf32: bool) -> None:
    """Of square matrices of random numbers: zeros would run faster than data does."""
    side = bench.sizes.product
    a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        seconds, spread = median_and_spread(bench.seconds(lambda: torch.mm(a, b, out=out)))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    flop = 2 * side**3
    text = f"{flop / seconds / 1e12:.2f} TFLOP/s, product of {side}^3"
    bench.record(name, text, seconds=seconds, spread=spread, flop=flop, rate=flop / seconds)


def _launch(bench: Bench) -> None:
    """How long the host takes to start a kernel that has next to nothing to do."""
    x = torch.ones(1, device=bench.device)
    count = 1000

    def many() -> None:
        for _ in range(count):
            x.add_(1)

    seconds, spread = median_and_spread(bench.seconds(many))
    bench.record(
        "launch",
        f"{1e6 * seconds / count:.2f} us a kernel",
        seconds=seconds / count,
        spread=spread / count,
    )
