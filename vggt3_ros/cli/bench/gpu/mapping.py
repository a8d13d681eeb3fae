"""Step `mapping`: the full network with random weights maps and is queried, as it is executed
today.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread
from vggt3_ros.cli.bench.gpu.flop import map_flop
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory

_STEPS = 2
_MARGIN = 1.3  # a row is begun if there is so many times the time that it should take


def run(bench: Bench) -> None:
    """Mapping with fast weights over the number of frames, localizing in two of those maps, then
    softmax mapping.
    """
    sizes = bench.sizes
    network = _build(bench, sizes.ttt)
    chunk = _best_chunk(bench, network)
    known: dict[int, float] = {}  # seconds by frames
    for frames in sizes.mapped:
        memory = _map(bench, network, "ttt", frames, chunk, known)
        if memory is not None and frames in sizes.queried:
            bench.attempt(f"localize in {frames}", partial(_query, bench, network, frames, memory))
    network = _build(bench, sizes.softmax)
    known = {}
    for frames in sizes.softmax_mapped:
        _map(bench, network, "softmax", frames, chunk, known)


def _build(bench: Bench, config: ModelConfig) -> Vggt3:
    """Weights are made where they are used."""
    bench.free()
    torch.manual_seed(0)
    with bench.device:
        return Vggt3(config, "bf16").eval().requires_grad_(False)


def _images(bench: Bench, frames: int) -> Tensor:
    return torch.rand(frames, 3, *bench.sizes.image_hw, device=bench.device)


def _best_chunk(bench: Bench, network: Vggt3) -> int:
    """Frames at a time with which mapping is fastest."""
    chunks = bench.sizes.chunks
    images = _images(bench, max(chunks))
    taken = {}
    for chunk in chunks:

        def work(chunk: int = chunk) -> None:
            network.map(images, _STEPS, chunk)
            taken[chunk] = bench.time(lambda: network.map(images, _STEPS, chunk))
            rate = len(images) / taken[chunk]
            bench.record(
                f"chunks of {chunk}",
                f"{rate:.1f} frames/s of {len(images)}",
                frames_per_s=rate,
                chunk=chunk,
            )

        bench.attempt(f"chunks of {chunk}", work)
    return min(taken, key=lambda chunk: taken[chunk]) if taken else min(chunks)


def _map(
    bench: Bench, network: Vggt3, kind: str, frames: int, chunk: int, known: dict[int, float]
) -> SceneMemory | None:
    """A row: how long it takes, by stages too, and how much memory; `known` seconds by frames tell
    what fits.
    """
    name = f"{kind} maps {frames}"
    if known and not bench.fits(name, _MARGIN * _expected(known, frames, kind)):
        return None
    memory: SceneMemory | None = None

    def work() -> None:
        nonlocal memory
        images = _images(bench, frames)
        bench.free()
        stages = StageClock(bench.device)

        def once() -> None:
            nonlocal memory
            _, memory = network.map(images, _STEPS, chunk, stages)

        seconds = bench.time(once)
        known[frames] = seconds
        flop = map_flop(network.config, frames, bench.sizes.image_hw, _STEPS)
        peak = bench.peak_bytes()
        parts = stages.seconds()
        text = f"{seconds:.2f} s, {frames / seconds:.1f} frames/s"
        text += bench.of_ceiling(flop / seconds, "bf16")
        text += f", {peak / 2**30:.1f} GiB at most" if peak is not None else ""
        text += " (" + ", ".join(f"{stage} {took:.2f}" for stage, took in parts.items()) + ")"
        figures = {"seconds": seconds, "stages": parts, "flop": flop, "peak_bytes": peak}
        bench.record(name, text, kind=kind, frames=frames, chunk=chunk, **figures)

    bench.attempt(name, work)
    return memory


def _expected(known: dict[int, float], frames: int, kind: str) -> float:
    """Linear with fast weights, quadratic at worst with softmax."""
    most = max(known)
    return known[most] * (frames / most) ** (1 if kind == "ttt" else 2)


def _query(bench: Bench, network: Vggt3, frames: int, memory: SceneMemory) -> None:
    """One image at a time."""
    image = _images(bench, 1)
    seconds, spread = median_and_spread(bench.seconds(lambda: network.query(image, memory)))
    text = f"{1e3 * seconds:.1f} ms, {1 / seconds:.1f} a second"
    bench.record(
        f"localize in {frames}",
        text,
        seconds=seconds,
        spread=spread,
        frames=frames,
        memory_bytes=memory.nbytes,
    )
