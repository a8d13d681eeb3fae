"""Step `paths`: every fast path on and off, what stays on the device, and how many frames pass
together.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.localizing import localizing
from vggt3_ros.cli.bench.gpu.networks import build, execute, execute_as_chosen, forget_compiled
from vggt3_ros.cli.bench.gpu.timed_map import STEPS, Pace, fit, timed_map, warm_frames
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.model.streaming import Resident
from vggt3_ros.pipeline.memory_check import fit_map

_COMPILING_S = 60.0  # that must be left for compiling to begin


def run(bench: Bench) -> None:
    """Maps of a few frames, and localizing in them, with each fast path; larger maps that stay on
    the device or not, and chunks; then with what has to be compiled.
    """
    network = build(bench, bench.sizes.ttt)
    pace = Pace()
    for name, execution in executions().items():
        if not execution.compiled:
            _execute(bench, network, name, execution, pace)
    execute_as_chosen(bench, network)
    for resident, frames in _residences(bench):
        name = f"resident {resident}, {frames}"
        way = fit(bench, name, network, frames)
        if way is not None:
            _map(bench, network, name, frames, way.chunk, pace, resident)
    for chunk in bench.sizes.chunks:
        _map(bench, network, f"chunks of {chunk}", bench.sizes.paths, chunk, pace)
    forget_compiled(bench)
    for name, execution in executions().items():
        if not execution.compiled:
            continue
        if bench.device.type != "cuda":
            reason = "left out: networks are compiled on GPUs alone"
            bench.record(f"paths {name}", reason, skipped="not on a GPU")
        elif bench.fits(f"paths {name}", _COMPILING_S):
            _execute(bench, network, name, execution, pace)


def executions() -> dict[str, Execution]:
    """None of the fast paths, those that a user gets on a GPU, each alone, all of them."""
    none = Execution()
    names = [field.name for field in fields(Execution)]
    alone = {f"{name} alone": replace(none, **{name: True}) for name in names}
    usual = replace(none, kernels=True, graphs=True)
    together = replace(none, **dict.fromkeys(names, True))
    return {"none": none, "kernels and graphs": usual, **alone, "all": together}


def _residences(bench: Bench) -> list[tuple[Resident, int]]:
    """What is tried with how many frames."""
    few, many = bench.sizes.resident
    return [("all", few), ("none", few), ("none", many), ("stream", few)]


def _execute(bench: Bench, network: Vggt3, name: str, execution: Execution, pace: Pace) -> None:
    """Rows of one way to execute: a map, and localizing in it."""
    frames = bench.sizes.paths
    scene: SceneMemory | None = None

    def work() -> None:
        nonlocal scene
        execute(bench, network, execution)
        chunk = fit_map(network, frames, bench.sizes.image_hw).chunk
        scene = _map(bench, network, f"paths {name}", frames, chunk, pace)

    bench.attempt(f"paths {name}", work)
    if scene is not None:
        localizing(bench, f"paths {name}, localize", network, scene, execution)


def _map(
    bench: Bench,
    network: Vggt3,
    name: str,
    frames: int,
    chunk: int,
    pace: Pace,
    resident: Resident = "all",
) -> SceneMemory | None:
    def work(images: Tensor, stages: StageClock) -> tuple[Prediction, SceneMemory | None]:
        return network.map(images, STEPS, chunk, stages, resident=resident)

    figures: dict[str, Any] = {"chunk": chunk, "resident": resident}
    figures["execution"] = vars(network.execution)
    # all of them beforehand where host memory is page-locked, which takes long and is kept
    warm = frames if resident == "none" else warm_frames(frames, chunk)
    return timed_map(bench, name, work, frames, pace, warm, **figures)
