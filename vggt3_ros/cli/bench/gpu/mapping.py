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
from vggt3_ros.cli.bench.gpu.networks import build, build_in_fp32, execute_as_chosen
from vggt3_ros.cli.bench.gpu.timed_map import STEPS, Pace, fit, timed_map, warm_frames
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.memory_check import available_bytes

_WARM_REFERENCE = 8  # frames


def run(bench: Bench) -> None:
    """Ours beside the reference flow, localizing, ours over the number of frames, softmax."""
    sizes = bench.sizes
    networks = _Networks(bench)
    bench.record("execution", str(networks.ours().execution), **vars(networks.ours().execution))
    ours, theirs = Pace(), Pace()
    scenes: dict[int, SceneMemory | None] = {}
    for frames in sizes.compared:
        scenes[frames] = _ours(bench, networks.ours(), ours, frames)
        _theirs(bench, networks.theirs(), theirs, frames)
    ratios.of_card(bench, ours)
    ratios.beside_reference(bench, ours, theirs, sizes.compared)
    for frames in sizes.queried:
        if frames not in scenes:
            scenes[frames] = _ours(bench, networks.ours(), ours, frames)
    localize(bench, networks.ours(), {n: scenes[n] for n in sizes.queried})
    scenes.clear()
    for frames in sizes.further:
        _ours(bench, networks.ours(), ours, frames)
    ratios.exponent(bench, ours)
    for frames in sizes.further_compared:
        _theirs(bench, networks.theirs(), theirs, frames)
    ratios.beside_reference(bench, ours, theirs, sizes.further_compared)
    softmax = Pace(power=2)
    for frames in sizes.softmax_mapped:
        _ours(bench, networks.ours(softmax=True), softmax, frames, "softmax")
    ratios.beside_softmax(bench, ours, softmax)


class _Networks:
    """One network at a time, so that none weighs on the memory of another. All have the same
    random weights.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._there: tuple[str, Vggt3] | None = None

    def ours(self, softmax: bool = False) -> Vggt3:
        """As a user has it."""
        sizes = self._bench.sizes
        return self._get("softmax", sizes.softmax) if softmax else self._get("ttt", sizes.ttt)

    def theirs(self) -> Vggt3:
        """For the reference flow: weights in fp32, nothing that makes it fast."""
        return self._get("reference", self._bench.sizes.ttt)

    def _get(self, kind: str, config: ModelConfig) -> Vggt3:
        if self._there is None or self._there[0] != kind:
            self._there = None
            if kind == "reference":
                network = build_in_fp32(self._bench, config)
            else:
                network = build(self._bench, config)
                execute_as_chosen(self._bench, network)
            self._there = kind, network
        return self._there[1]


def _ours(
    bench: Bench, network: Vggt3, pace: Pace, frames: int, kind: str = "ttt"
) -> SceneMemory | None:
    name = f"{kind} maps {frames}"
    way = fit(bench, name, network, frames)
    if way is None:
        return None

    def work(images: Tensor, stages: StageClock) -> tuple[Prediction, SceneMemory | None]:
        return network.map(images, STEPS, way.chunk, stages, resident=way.resident)

    flop = map_flop(network.config, frames, bench.sizes.image_hw, STEPS)
    warm = warm_frames(frames, way.chunk)
    return timed_map(bench, name, work, frames, pace, warm, flop, kind=kind, **way._asdict())


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
