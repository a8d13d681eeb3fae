"""What a device spends its time on, by kernel, and the least that our own kernels could take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.model.config import ModelConfig

Kernel = dict[str, Any]
"""Name, calls, seconds, share of all; of our own kernels also floor_s and of_floor, the floor as a
fraction of the seconds.
"""


def profile(
    bench: Bench, work: Callable[[], object], count: int, floors: Mapping[str, float]
) -> list[Kernel]:
    """The `count` kernels that take most of one run; floors: seconds a call of own kernels."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    on_gpu = bench.device.type == "cuda"
    with record(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        work()
        bench.synchronize()
    field = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(e.key, e.count, getattr(e, field) / 1e6) for e in found.key_averages()]
    whole = sum(seconds for *_, seconds in rows)
    rows.sort(key=lambda row: -row[2])
    kernels: list[Kernel] = []
    for name, calls, seconds in rows[:count]:
        if seconds > 0:
            share = seconds / whole
            kernel = {"name": name, "calls": calls, "seconds": seconds, "share": share}
            kernels.append(kernel | _beside_floor(name, calls, seconds, floors))
    return kernels


def _beside_floor(
    name: str, calls: int, seconds: float, floors: Mapping[str, float]
) -> dict[str, float]:
    floor = floors.get(name.removesuffix("_kernel"))
    if floor is None:
        return {}
    return {"floor_s": calls * floor, "of_floor": calls * floor / seconds}


def told(kernels: list[Kernel], count: int) -> str:
    """The first `count`, for people."""
    parts = []
    for kernel in kernels[:count]:
        part = f"{kernel['name'][:40]} {100 * kernel['share']:.0f} %"
        if "of_floor" in kernel:
            part += f" (at {100 * kernel['of_floor']:.0f} % of its floor)"
        parts.append(part)
    return ", ".join(parts)


def own_floors(bench: Bench, config: ModelConfig, tokens: int) -> dict[str, float]:
    """Seconds that a call of each of our kernels takes at least with so many tokens, by name: its
    operations at the measured bf16 ceiling, or the bf16 tokens that it reads and writes at the
    ceiling of a copy. Empty where ceilings were not measured.
    """
    product, copy = (bench.ceilings.get(name) for name in ("bf16", "copy"))
    if config.ttt is None or product is None or copy is None:
        return {}
    channels = config.embed_dim
    heads = config.ttt.num_heads or config.num_heads
    width = channels // heads
    hidden = width * config.ttt.mlp_ratio
    read = 2 * tokens * channels  # bytes of one of q, k, v
    weights = 3 * heads * width * hidden * 4
    steps = max(0, config.ttt.newton_schulz_steps)
    orthogonal = 3 * heads * steps * (4 * width**2 * hidden + 2 * width**3)
    of_product = 2 * tokens * channels * hidden
    work = {  # operations, bytes
        "gradient": (6 * of_product, 2 * read + 12 * tokens * heads + 2 * weights),
        "apply": (3 * of_product, 2 * read + weights),
        "unit": (0, 2 * read),
        "convolve": (0, 2 * read),
        "norm_rope": (0, 2 * read),
        "newton_schulz": (orthogonal, 2 * weights),
    }
    return {name: max(flop / product, moved / copy) for name, (flop, moved) in work.items()}
