"""Step `correctness`: what the device computes, compared with what the CPU computes in fp32, the
truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.comparing import Mode, Outputs, compare
from vggt3_ros.cli.bench.gpu.path_checks import check_paths, map_and_query, predicted
from vggt3_ros.cli.bench.gpu.sizes import Sizes
from vggt3_ros.cli.bench.gpu.training_checks import check_gradients, check_rendering
from vggt3_ros.model.checkpoint import load_weights
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory

_GOLDEN = Path(__file__).parents[4] / "test" / "data" / "network"
_CASES = ("dev_vggttt_step1", "dev_vggttt_step2", "dev_vggttt_mapquery", "dev_vggt_softmax")
_COMPARISON_S = 5.0  # that must be left for one to begin


def run(bench: Bench) -> None:
    """Golden files, fast paths, random small networks, gradients, rendering: in fp32, with tf32
    where torch allows it, in bf16.
    """
    for name, work in _comparisons(bench).items():
        if bench.fits(name, _COMPARISON_S):
            bench.attempt(name, work)


def _comparisons(bench: Bench) -> dict[str, Callable[[], None]]:
    """In order of worth."""
    works: dict[str, Callable[[], None]] = {}
    for case in _CASES:
        works[f"golden {case}"] = partial(_golden, bench, case)
    works["paths"] = partial(check_paths, bench, compiled=False)
    for name, config in _small_networks().items():
        outputs = partial(map_and_query, config, 1)
        works[f"random {name}"] = partial(compare, bench, f"random {name}", outputs)
    works["gradients"] = partial(check_gradients, bench)
    works["rendering"] = partial(check_rendering, bench)
    works["compiled paths"] = partial(check_paths, bench, compiled=True)
    return works


def _golden(bench: Bench, case: str) -> None:
    from safetensors.torch import load_file

    if not (_GOLDEN / f"{case}.json").exists():
        reason = f"left out: no {_GOLDEN}, which a checkout has"
        bench.record(f"golden {case}", reason, skipped=reason)
        return
    description = json.loads((_GOLDEN / f"{case}.json").read_text())
    tensors = load_file(_GOLDEN / f"{case}.data.safetensors")

    def outputs(device: torch.device, mode: Mode) -> Outputs:
        network = Vggt3(
            ModelConfig.from_dict(description["config"]), "bf16" if mode == "bf16" else "fp32"
        ).eval()
        load_weights(network, _GOLDEN / description["state_file"])
        network = network.to(device).requires_grad_(False)
        memory: SceneMemory | None = None
        found: Outputs = {}
        for run in description["runs"]:
            images = tensors[run["images"]].to(device)
            if run["call"] == "query":
                assert memory is not None
                prediction = network.query(images, memory)
            else:
                prediction, memory = network.map(images, run.get("num_ttt_steps", 1))
            found |= {f"{run['prefix']}.{name}": t for name, t in predicted(prediction).items()}
        return found

    names = {"pose_encoding": "pose_enc", "depth": "depth", "depth_confidence": "depth_conf"}
    truth = {}
    for run in description["runs"]:
        prefix = run["prefix"]
        for ours, theirs in names.items():
            truth[f"{prefix}.{ours}"] = tensors[f"{prefix}.{theirs}"]
    compare(bench, f"golden {case}", outputs, truth)


def _small_networks() -> dict[str, ModelConfig]:
    """One of every kind that the code knows: backbone, stem, published and wide heads, softmax."""
    small = Sizes.dry()
    stem: dict[str, Any] = {
        "patch_embedding": "conv",
        "patch_size": 8,
        "image_size": 64,
        "point_head": False,
    }
    return {
        "ttt": replace(small.ttt, point_head=True),
        "softmax": small.softmax,
        "ttt of one wide head": replace(small.ttt, **stem, ttt=TttConfig(num_heads=1)),
        "softmax with a stem": replace(small.softmax, **stem),
    }
