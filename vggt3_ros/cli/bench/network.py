"""One row of `vggt3 bench`: a network with random weights maps, or is queried, and is timed and
weighed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from vggt3_ros.allocation import keep_freed_memory
from vggt3_ros.cli.bench.peak_memory import PeakMemory
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.config import GlobalAttention, ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.streaming import Resident

Attention = Literal["ttt", "softmax", "anchored", "own"]
"""The kind of all global layers; 'own' for those that the model has."""


@dataclass(frozen=True)
class Case:
    """What one row measures. `frames` are mapped; with task 'localize' one more image is then
    localized.
    """

    task: Literal["mapping", "localize"]
    model: str
    attention: Attention
    frames: int
    image_size: tuple[int, int]  # H, W in pixels
    steps: int
    chunk: int
    repeats: int
    precision: Literal["fp32", "bf16"]
    device: str
    seed: int
    resident: Resident = "all"


@dataclass(frozen=True)
class FrameBytes:
    """What grows with the mapped frames, in bytes of all of them: their images, which are there
    before, then what mapping keeps (Vggt3.kept_bytes). By how much the peak is above that, without
    weights and images, should not depend on the number of frames; with softmax it does, by the keys
    and values of a layer.
    """

    images: int = field(metadata=figure("bytes"))
    stream: int = field(metadata=figure("bytes"))
    levels: int = field(metadata=figure("bytes"))
    maps: int = field(metadata=figure("bytes"))
    peak_above_stream: int = field(metadata=figure("bytes"))
    peak_above_all: int = field(metadata=figure("bytes"))


@dataclass(frozen=True)
class Measured:
    """One row: seconds is the median of seconds_all. stages, by name, are from one more run. Bytes:
    see PeakMemory. of_frames is told of mapping alone.
    """

    attention: Attention = field(metadata=figure(key="global"))
    frames: int = field(metadata=figure("count"))
    seconds: float = field(metadata=figure("s"))
    seconds_all: list[float] = field(metadata=figure("s"))
    peak_bytes: int = field(metadata=figure("bytes"))
    resting_bytes: int = field(metadata=figure("bytes"))
    stages: dict[str, float] = field(metadata=figure("s"))
    of_frames: FrameBytes | None = field(default=None, metadata=figure(optional=True))


@dataclass(frozen=True)
class Failed:
    """A row for which memory did not suffice."""

    attention: Attention = field(metadata=figure(key="global"))
    frames: int = field(metadata=figure("count"))
    error: str
    seconds: None = None
    peak_bytes: None = None


def config_of(model: str, attention: Attention) -> ModelConfig:
    """Sizes of the published model ("full"), or of a checkpoint, with global layers of the given
    kind.
    """
    config = ModelConfig.full("ttt") if model == "full" else load_network(model).config
    if attention == "own":
        return config
    ttt = (config.ttt or TttConfig()) if attention == "ttt" else None
    kinds: tuple[GlobalAttention, ...] = (attention,) * config.depth
    return replace(config, attn=None, global_attention=kinds, ttt=ttt)


def measure(case: Case) -> Measured:
    """Warm up, weigh one run, time `repeats` runs and take one more apart into stages."""
    keep_freed_memory()  # as all programs of ours; a process that was spawned has not
    device = torch.device(case.device)
    network = _build(case, device)
    generator = torch.Generator().manual_seed(case.seed)
    images = torch.rand(case.frames, 3, *case.image_size, generator=generator).to(device)
    work = _work(case, network, images)

    # loads kernels and libraries, which are not the work's memory
    network.map(images[:2], case.steps, case.chunk, resident=case.resident)
    memory = PeakMemory(device)
    work(None)
    peak_bytes = memory.peak_bytes()
    resting_bytes = memory.resting_bytes
    of_frames = None
    if case.task == "mapping":
        growth = peak_bytes - resting_bytes if device.type == "cuda" else peak_bytes
        of_frames = frame_bytes(case, network, images, growth)

    seconds = [_seconds(lambda: work(None), device) for _ in range(case.repeats)]
    stages = StageClock(device)
    work(stages)
    _synchronize(device)
    return Measured(
        attention=case.attention,
        frames=case.frames,
        seconds=statistics.median(seconds),
        seconds_all=seconds,
        peak_bytes=peak_bytes,
        resting_bytes=resting_bytes,
        stages=stages.seconds(),
        of_frames=of_frames,
    )


def frame_bytes(case: Case, network: Vggt3, images: torch.Tensor, growth: int) -> FrameBytes:
    """The bytes of all frames when mapping added `growth` to what was there before."""
    # on a CPU, its device's memory is the host's
    there = "all" if case.resident == "none" and images.device.type == "cpu" else case.resident
    kept = {
        name: case.frames * each
        for name, each in network.kept_bytes(*case.image_size, resident=there).items()
    }
    # when frames pass once more for the heads, the stream has gone
    at_once = max(kept["stream"], kept["maps"]) if there == "stream" else sum(kept.values())
    return FrameBytes(
        images=images.nbytes,
        **kept,
        peak_above_stream=growth - kept["stream"],
        peak_above_all=growth - at_once,
    )


def _build(case: Case, device: torch.device) -> Vggt3:
    torch.manual_seed(case.seed)
    with device:
        network = Vggt3(config_of(case.model, case.attention), case.precision)
    return network.eval().requires_grad_(False)


def _work(
    case: Case, network: Vggt3, images: torch.Tensor
) -> Callable[[StageClock | None], object]:
    if case.task == "mapping":
        return lambda progress: network.map(
            images, case.steps, case.chunk, progress, resident=case.resident
        )
    _, scene_memory = network.map(images, case.steps, case.chunk)
    return lambda progress: network.query(images[:1], scene_memory, progress=progress)


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
