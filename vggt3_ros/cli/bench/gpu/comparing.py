"""Rows that say whether what a device computes is right: relative errors, held against limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench

CPU = torch.device("cpu")
# Greatest ||out - truth|| / ||truth||. Of bf16: as many times what the CPU's own bf16 is off.
_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 2.0}
_MIN_BF16 = 2e-2

Mode = Literal["fp32", "tf32", "bf16"]
Outputs = dict[str, Tensor]
Compute = Callable[[torch.device, Mode], Outputs]


@dataclass(frozen=True)
class Truth:
    """What is right, what the CPU has in bf16, and the worst relative error of that."""

    outputs: Outputs
    by_cpu: Outputs
    rounded: float


def find_truth(compute: Compute, outputs: Outputs | None = None) -> Truth:
    """The CPU's fp32 is right, where `outputs` are not given that are."""
    outputs = compute(CPU, "fp32") if outputs is None else outputs
    by_cpu = compute(CPU, "bf16")
    return Truth(outputs, by_cpu, max(errors(by_cpu, outputs).values()))


def all_modes(bench: Bench) -> tuple[Mode, ...]:
    """The kinds of arithmetic that a device has."""
    return ("fp32", "tf32", "bf16") if bench.device.type == "cuda" else ("fp32", "bf16")


def compare(bench: Bench, name: str, compute: Compute, right: Outputs | None = None) -> None:
    """A row for each kind of arithmetic; without outputs that are `right`, the CPU's fp32 is."""
    truth = find_truth(compute, right)
    for mode in all_modes(bench):
        with arithmetic(mode):
            known = bench.device == CPU and mode == "bf16"
            found = truth.by_cpu if known else compute(bench.device, mode)
        judge(bench, f"{name}, {mode}", mode, found, truth)


def compare_in(
    bench: Bench, name: str, compute: Compute, truth: Truth, modes: Sequence[Mode]
) -> None:
    """A row for each of some kinds of arithmetic, when the truth is known."""
    for mode in modes:
        with arithmetic(mode):
            found = compute(bench.device, mode)
        judge(bench, f"{name}, {mode}", mode, found, truth)


def judge(bench: Bench, name: str, mode: Mode, found: Outputs, truth: Truth) -> None:
    """A row: the worst of the outputs, and whether it is near enough."""
    limit = max(_MIN_BF16, _LIMITS[mode] * truth.rounded) if mode == "bf16" else _LIMITS[mode]
    missed = errors(found, truth.outputs)
    worst = max(missed, key=lambda out: missed[out] if missed[out] == missed[out] else torch.inf)
    okay = missed[worst] <= limit
    text = f"{verdict(okay)}: off by {missed[worst]:.1e} ({worst}), at most {limit:.0e}"
    figures: dict[str, Any] = {"ok": okay, "errors": missed, "limit": limit}
    bench.record(name, text, mode=mode, **figures, cpu_bf16=truth.rounded)


def verdict(okay: bool) -> str:
    """A verdict for people."""
    return "ok" if okay else "NOT OK"


def errors(found: Outputs, right: Outputs) -> dict[str, float]:
    """||found - right|| / ||right|| by name, in fp64."""
    missed = {}
    for name, expected in right.items():
        expected = expected.double()
        apart = found[name].detach().cpu().double().view_as(expected) - expected
        missed[name] = float(
            torch.linalg.vector_norm(apart) / torch.linalg.vector_norm(expected).clamp(min=1e-12)
        )
    return missed


@contextmanager
def arithmetic(mode: Mode) -> Iterator[None]:
    """fp32 without tf32; tf32 wherever torch can be set so; bf16 is the network's business, all
    else is as usual.
    """
    if mode == "bf16":
        yield
        return
    matmul = torch.backends.cuda.matmul
    conv = torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = mode == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before
