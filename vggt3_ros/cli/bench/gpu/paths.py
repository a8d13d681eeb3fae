"""Step `paths`: every fast path on and off, what stays on the device, and how many frames pass
together.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.localizing import localizing
from vggt3_ros.cli.bench.gpu.timed_map import (
    STEPS,
    Pace,
    build,
    chunk_of,
    timed_map,
    warm_frames,
)
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.execution import Execution, chosen_execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.model.streaming import Resident


def run(bench: Bench) -> None:
    """Maps of a few frames, and localizing in them, with each fast path; then, as it is chosen,
    larger maps that stay on the device or not, and chunks.
    """
    sizes = bench.sizes
    network = build(bench, sizes.ttt)
    few = chunk_of(network, sizes.paths, sizes.image_hw)
    pace = Pace()
    for name, execution in executions().items():
        network.execute(execution)
        name = f"paths {name}"
        scene = _map(bench, network, name, sizes.paths, few, pace, execution=vars(execution))
        if scene is not None:
            localizing(bench, f"{name}, localize", network, scene, execution)
    network.execute(chosen_execution("auto", network.config, bench.device))
    pace = Pace()
    for resident, frames in _residences(bench):
        name = f"resident {resident}, {frames}"
        chunk = chunk_of(network, frames, sizes.image_hw)
        _map(bench, network, name, frames, chunk, pace, resident)
    for chunk in sizes.chunks:
        _map(bench, network, f"chunks of {chunk}", sizes.paths, chunk, pace)


def executions() -> dict[str, Execution]:
    """None of the fast paths, all of them, each alone."""
    none = Execution.plain()
    every = {field.name: True for field in fields(Execution)}
    alone = {f"{name} alone": replace(none, **{name: True}) for name in every}
    return {"none": none, "all": replace(none, **every), **alone}


def _residences(bench: Bench) -> list[tuple[Resident, int]]:
    """What is tried with how many frames; "stream", which takes twice the time, comes last."""
    few, many = bench.sizes.resident
    return [("all", few), ("none", few), ("none", many), ("stream", few)]


def _map(
    bench: Bench,
    network: Vggt3,
    name: str,
    frames: int,
    chunk: int,
    pace: Pace,
    resident: Resident = "all",
    **figures: Any,
) -> SceneMemory | None:
    def work(images: Tensor, stages: StageClock) -> tuple[Prediction, SceneMemory | None]:
        return network.map(images, STEPS, chunk, stages, resident=resident)

    warm = warm_frames(frames, chunk)
    figures |= {"chunk": chunk, "resident": resident}
    return timed_map(bench, name, work, frames, pace, warm, **figures)
