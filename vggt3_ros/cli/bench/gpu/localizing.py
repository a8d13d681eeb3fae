"""Rows of localizing one image in maps, with a CUDA graph and without."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from vggt3_ros.cli.bench.gpu import targets
from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread
from vggt3_ros.cli.bench.gpu.networks import execute, random_images
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory

_TIMES = 3  # as long as something small is repeated: twice, and the first times


def localize(bench: Bench, network: Vggt3, scenes: Mapping[int, SceneMemory | None]) -> None:
    """One image at a time in maps of so many frames, those that there are, as it is chosen and with
    the graph turned round; then what is asked of that.
    """
    usual = network.execution
    turned = replace(usual, graphs=not usual.graphs)
    rates: dict[int, float] = {}
    for frames, scene in scenes.items():
        if scene is None:
            continue
        rate = localizing(bench, f"localize in {frames}", network, scene, usual)
        if rate is not None:
            rates[frames] = rate
        name = f"localize in {frames}, graphs {'on' if turned.graphs else 'off'}"
        localizing(bench, name, network, scene, turned)
    execute(bench, network, usual)
    few, most = min(bench.sizes.queried), max(bench.sizes.queried)
    if most in rates:
        targets.RATE.judge(bench, rates[most], f"one image in a map of {most} frames")
    if rates.keys() >= {few, most}:
        apart = 100 * abs(1 - rates[most] / rates[few])
        targets.EVEN.judge(bench, apart, f"maps of {few} and {most} frames")


def localizing(
    bench: Bench, name: str, network: Vggt3, scene: SceneMemory, execution: Execution
) -> float | None:
    """A row: localizations a second, with their depth and without; returns the former, None where
    it does not fit or fails. The second query is the one that a graph is recorded at.
    """
    rate: float | None = None
    if not bench.fits(name, _TIMES * bench.sizes.moment_s):
        return rate

    def work() -> None:
        nonlocal rate
        execute(bench, network, execution)
        image = random_images(bench, 1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            first = bench.time(lambda: network.query(image, scene))
            second = bench.time(lambda: network.query(image, scene))
        if execution.graphs and not network.execution.graphs and bench.device.type == "cuda":
            raise RuntimeError(str(told[-1].message) if told else "no graph was recorded")
        seconds, spread = median_and_spread(bench.seconds(lambda: network.query(image, scene)))
        pose = partial(network.query_undecoded, image, scene)
        pose_seconds, _ = median_and_spread(bench.seconds(pose))
        rate = 1 / seconds
        text = f"{1e3 * seconds:.1f} ms, {rate:.1f} a second with depth; the pose alone"
        text += f" {1e3 * pose_seconds:.1f} ms"
        text += f"; {first:.1f} s the first time, {second:.1f} s the second"
        figures = {"seconds": seconds, "spread": spread, "pose_seconds": pose_seconds}
        figures |= {"first_seconds": first, "second_seconds": second}
        bench.record(name, text, **figures, memory_bytes=scene.nbytes, execution=vars(execution))

    bench.attempt(name, work)
    return rate
