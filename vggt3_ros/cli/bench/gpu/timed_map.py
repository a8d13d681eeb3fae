"""A row of `vggt3 bench gpu`: some images are mapped, timed and weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.networks import random_images
from vggt3_ros.cli.bench.peak_memory import PeakMemory
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.memory_check import MapFit, fit_map

STEPS = 2  # of test-time training, as in all published figures
_MARGIN = 1.3  # a row is begun if there is so many times the time that it should take

MapImages = Callable[[Tensor, StageClock], tuple[Prediction, SceneMemory | None]]


@dataclass(frozen=True)
class Timed:
    """A map that was made. `peak_bytes`: as PeakMemory has it, images included on a GPU."""

    frames: int
    seconds: float
    peak_bytes: int
    images_bytes: int


class Pace:
    """How long maps of one kind took, and so how long one more will: quadratic at worst with
    softmax.
    """

    def __init__(self, power: int = 1) -> None:
        self.power = power
        self.timed: dict[int, Timed] = {}  # by frames

    def expected(self, frames: int) -> float | None:
        """Seconds that so many frames take with a margin; None where nothing was measured."""
        if not self.timed:
            return None
        most = max(self.timed)
        return _MARGIN * self.timed[most].seconds * (frames / most) ** self.power


def fit(bench: Bench, name: str, network: Vggt3, frames: int) -> MapFit | None:
    """How the network maps so many frames as a user has it; a row says so where it cannot."""
    try:
        return fit_map(network, frames, bench.sizes.image_hw)
    except InputError as error:
        bench.record(name, f"left out: {error}", skipped=str(error))
        return None


def warm_frames(frames: int, chunk: int) -> int:
    """The fewest frames that pass in chunks of the same sizes: what is compiled, is compiled for
    sizes.
    """
    return frames if frames < 2 * chunk else chunk + frames % chunk


def timed_map(
    bench: Bench,
    name: str,
    map_images: MapImages,
    frames: int,
    pace: Pace,
    warm: int,
    flop: int | None = None,
    **figures: Any,
) -> SceneMemory | None:
    """A row, and an entry of the pace: how long it takes, by stages too, and how much memory. None
    where it does not fit or fails, or a network keeps no memory. `warm` frames are mapped
    beforehand, which loads and compiles.
    """
    expected = pace.expected(frames)
    if expected is not None and not bench.fits(name, expected * (1 + warm / frames)):
        return None
    scene: SceneMemory | None = None

    def work() -> None:
        nonlocal scene
        images = random_images(bench, frames)
        first = bench.time(lambda: map_images(images[:warm], StageClock(bench.device)))
        memory = PeakMemory(bench.device)
        stages = StageClock(bench.device)

        def once() -> None:
            nonlocal scene
            _, scene = map_images(images, stages)

        seconds = bench.time(once)
        found = Timed(frames, seconds, memory.peak_bytes(), images.nbytes)
        pace.timed[frames] = found
        parts = stages.seconds()
        row: dict[str, Any] = {"frames": frames, "seconds": seconds}
        row |= {"peak_bytes": found.peak_bytes, "resting_bytes": memory.resting_bytes}
        if bench.device.type == "cuda":
            row["reserved_bytes"] = torch.cuda.memory_reserved(bench.device)
            row["peak_reserved_bytes"] = torch.cuda.max_memory_reserved(bench.device)
        row |= {"images_bytes": images.nbytes, "stages": parts, "flop": flop}
        row |= {"first_seconds": first, "first_frames": warm}
        text = _text(bench, found, parts, flop) + f", {first:.1f} s for the first {warm}"
        bench.record(name, text, **row, **figures)

    bench.attempt(name, work)
    return scene


def _text(bench: Bench, timed: Timed, stages: dict[str, float], flop: int | None) -> str:
    text = f"{timed.seconds:.2f} s, {timed.frames / timed.seconds:.1f} frames/s"
    if flop is not None:
        text += bench.of_ceiling(flop / timed.seconds, "bf16")
    text += f", {timed.peak_bytes / 1e9:.2f} GB at most"
    if bench.device.type == "cuda":
        text += f", {timed.images_bytes / 1e9:.2f} of them images"
        text += f", {torch.cuda.max_memory_reserved(bench.device) / 1e9:.2f} reserved"
    return text + " (" + ", ".join(f"{name} {took:.2f}" for name, took in stages.items()) + ")"
