"""Step `training`: steps a second of recipes/train_gpu.yaml, compiled and not, and views rendered a
second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.flop import count_flop
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.trainer import Trainer
from vggt3_ros.worlds.textures import texture_bank

_CONFIG = Path(__file__).parents[4] / "recipes" / "train_gpu.yaml"
_ENDLESS = 10**6  # steps
_COMPILING_S = 45.0  # that must be left for compiling to begin


def read_config(bench: Bench, name: str) -> TrainConfig | None:
    """The configuration that a GPU trains with; None, and a row saying why, outside a checkout or
    without PyYAML.
    """
    try:
        import yaml  # noqa: F401
    except ImportError:
        reason = "left out: reading the configuration needs PyYAML"
    else:
        if _CONFIG.exists():
            return TrainConfig.read(_CONFIG)
        reason = f"left out: there is no {_CONFIG}; run it from a checkout"
    bench.record(name, reason, skipped=reason)
    return None


def run(bench: Bench) -> None:
    """Fill the pool of scenes, then train the softmax network and the converted one for a while
    each.
    """
    config = read_config(bench, "training")
    if config is None:
        return
    if bench.device.type != "cuda":
        config = config.hundredth()
    config = replace(config, softmax_steps=_ENDLESS, distil_steps=0, ttt_steps=0, renewals=0)
    pool = _filled_pool(bench, config)
    for phase, compiled in (("softmax", False), ("ttt", False), ("softmax", True), ("ttt", True)):
        name = f"{phase}, {'compiled' if compiled else 'eager'}"
        if compiled and bench.device.type != "cuda":
            bench.record(
                name, "left out: networks are compiled on GPUs alone", skipped="not on a GPU"
            )
        elif bench.fits(name, _COMPILING_S if compiled else bench.sizes.training_s / 2):
            bench.attempt(name, partial(_train, bench, config, pool, name, phase, compiled))


def _filled_pool(bench: Bench, config: TrainConfig) -> ScenePool:
    """Render all groups; textures, which are painted once in a process, are measured apart."""
    textures = bench.time(lambda: texture_bank("training", str(bench.device)))
    bench.record("textures", f"{textures:.1f} s, once in a process", seconds=textures)
    pool = ScenePool(config, bench.device)
    whole = bench.time(lambda: pool.batch(0, 0.0))
    rate = pool.rendered / pool.rendering.seconds()
    text = (
        f"{rate:.0f} views/s of {config.width} x {config.height}, {pool.rendered} views in"
        f" {whole:.1f} s"
    )
    bench.record("rendering", text, views_per_s=rate, views=pool.rendered, seconds=whole)
    return pool


def _counted_graphs() -> Callable[[], int]:
    """Start compiling anew, with what cannot be compiled as an error; returns what tells how many
    graphs there are.
    """
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.config.suppress_errors = False
    torch._dynamo.reset()
    counters.clear()
    return lambda: int(counters["stats"]["unique_graphs"])


def _train(
    bench: Bench, config: TrainConfig, pool: ScenePool, name: str, phase: str, compiled: bool
) -> None:
    """Two rows: how long the first step takes, and the pace after it, with one batch again and
    again.
    """
    if phase == "ttt":
        config = replace(config, softmax_steps=0, ttt_steps=_ENDLESS)
    bf16 = bench.device.type == "cuda"
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), bench.device, bf16=bf16, eager=not compiled)
        trainer.pool = pool
        count_graphs = _counted_graphs() if compiled else lambda: None
        first = bench.time(trainer.advance)
        graphs = count_graphs()
        text = f"{first:.1f} s" + (f", {graphs} graphs compiled" if compiled else "")
        bench.record(f"{name}, first step", text, seconds=first, graphs=graphs)
        flop = count_flop(trainer.advance) if not compiled else None
        steps = 0

        def pace() -> None:
            nonlocal steps
            end = time.monotonic() + min(bench.sizes.training_s, max(0.0, bench.left - 1))
            while steps == 0 or time.monotonic() < end:
                trainer.advance()
                steps += 1

        seconds = bench.time(pace)
    rate = steps / seconds
    peak = bench.peak_bytes()
    views = config.scenes * config.views
    text = f"{rate:.2f} steps/s of {views} views"
    if flop is not None:
        text += f", {rate * flop / 1e12:.1f} TFLOP/s{bench.of_ceiling(rate * flop, 'bf16')}"
    text += f", {peak / 2**30:.1f} GiB at most" if peak is not None else ""
    figures = {"steps_per_s": rate, "views_per_s": rate * views, "steps": steps}
    bench.record(name, text, **figures, flop_a_step=flop, peak_bytes=peak)
