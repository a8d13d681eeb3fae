"""Step `mapping`: the full network with random weights maps and is queried, our way and by the
reference flow, and what is asked of that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu import ratios, reference
from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.flop import map_flop
from vggt3_ros.cli.bench.gpu.localizing import localize
from vggt3_ros.cli.bench.gpu.timed_map import (
    STEPS,
    Pace,
    build,
    chunk_of,
    timed_map,
    warm_frames,
)
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.memory_check import available_bytes

_WARM_REFERENCE = 8  # frames


def run(bench: Bench) -> None:
    """Ours beside the reference flow, localizing, ours over the number of frames, softmax."""
    sizes = bench.sizes
    network = build(bench, sizes.ttt)
    ours, theirs = Pace(), Pace()
    scenes: dict[int, SceneMemory | None] = {}
    for frames in sizes.compared:
        scenes[frames] = _ours(bench, network, ours, frames)
        _theirs(bench, network, theirs, frames)
    ratios.of_card(bench, ours)
    ratios.beside_reference(bench, ours, theirs, sizes.compared)
    for frames in sizes.queried:
        if frames not in scenes:
            scenes[frames] = _ours(bench, network, ours, frames)
    localize(bench, network, {n: scenes[n] for n in sizes.queried})
    scenes.clear()
    for frames in sizes.further:
        _ours(bench, network, ours, frames)
    ratios.exponent(bench, ours)
    for frames in sizes.further_compared:
        _theirs(bench, network, theirs, frames)
    ratios.beside_reference(bench, ours, theirs, sizes.further_compared)
    del network
    _softmax(bench, ours)


def _ours(
    bench: Bench, network: Vggt3, pace: Pace, frames: int, kind: str = "ttt"
) -> SceneMemory | None:
    chunk = chunk_of(network, frames, bench.sizes.image_hw)

    def work(images: Tensor, stages: StageClock) -> tuple[Prediction, SceneMemory | None]:
        return network.map(images, STEPS, chunk, stages)

    flop = map_flop(network.config, frames, bench.sizes.image_hw, STEPS)
    warm = warm_frames(frames, chunk)
    name = f"{kind} maps {frames}"
    return timed_map(bench, name, work, frames, pace, warm, flop, kind=kind, chunk=chunk)


def _theirs(bench: Bench, network: Vggt3, pace: Pace, frames: int) -> None:
    name = f"reference maps {frames}"
    needed = reference.tapped_bytes(network, frames, bench.sizes.image_hw)
    there = available_bytes(torch.device("cpu"))
    if there is not None and needed > there:
        reason = (
            f"left out: its maps take {needed / 1e9:.1f} GB of host memory, {there / 1e9:.1f} GB"
            " are available"
        )
        bench.record(name, reason, skipped=reason)
        return

    def work(images: Tensor, stages: StageClock) -> tuple[Prediction, SceneMemory]:
        return reference.map_plainly(network, images, STEPS, bench.sizes.window, stages)

    timed_map(
        bench, name, work, frames, pace, min(frames, _WARM_REFERENCE), kind="reference flow",
        host_bytes=needed,
    )  # fmt: skip


def _softmax(bench: Bench, ours: Pace) -> None:
    """Softmax between all frames, our way, to where there is time."""
    network = build(bench, bench.sizes.softmax)
    pace = Pace(power=2)
    for frames in bench.sizes.softmax_mapped:
        _ours(bench, network, pace, frames, "softmax")
    ratios.beside_softmax(bench, ours, pace)
