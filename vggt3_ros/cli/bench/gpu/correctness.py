"""Step `correctness`: what the device computes, compared with what the CPU computes in fp32, the
truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench, Sizes
from vggt3_ros.cli.bench.gpu.training import read_config
from vggt3_ros.model.checkpoint import load_weights
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.training.initialise import convert, initialise
from vggt3_ros.training.losses import PatchHead, total_loss
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.viewpoints import random_intrinsics, training_views

_GOLDEN = Path(__file__).parents[4] / "test" / "data" / "network"
_CASES = ("dev_vggttt_step1", "dev_vggttt_step2", "dev_vggttt_mapquery", "dev_vggt_softmax")
_CPU = torch.device("cpu")
# Greatest ||out - truth|| / ||truth||. Of bf16: as many times what the CPU's own bf16 is off.
_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 2.0}
_MIN_BF16 = 2e-2
_MISSED_PIXELS = (
    2e-3  # fraction of pixels at the edges of things, where rounding decides what is seen
)

Mode = Literal["fp32", "tf32", "bf16"]
Outputs = dict[str, Tensor]


def run(bench: Bench) -> None:
    """Golden files, random small networks, gradients, rendering: in fp32, with tf32 where torch
    allows it, in bf16.
    """
    for case in _CASES:
        if (_GOLDEN / f"{case}.json").exists():
            bench.attempt(f"golden {case}", partial(_golden, bench, case))
        else:
            bench.record(
                f"golden {case}",
                f"left out: no {_GOLDEN}",
                skipped="a checkout has the golden files",
            )
    for name, config in _small_networks().items():
        outputs = partial(_map_and_query, config)
        bench.attempt(f"random {name}", partial(_compare, bench, f"random {name}", outputs))
    bench.attempt("gradients", partial(_gradients, bench))
    bench.attempt("rendering", partial(_rendering, bench))


def _golden(bench: Bench, case: str) -> None:
    from safetensors.torch import load_file

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
                prediction = network.query(images, memory)
            else:
                prediction, memory = network.map(images, run.get("num_ttt_steps", 1))
            found |= {f"{run['prefix']}.{name}": t for name, t in _of(prediction).items()}
        return found

    names = {"pose_encoding": "pose_enc", "depth": "depth", "depth_confidence": "depth_conf"}
    truth = {}
    for run in description["runs"]:
        prefix = run["prefix"]
        for ours, theirs in names.items():
            truth[f"{prefix}.{ours}"] = tensors[f"{prefix}.{theirs}"]
    _compare(bench, f"golden {case}", outputs, truth)


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
        "ttt": small.ttt,
        "softmax": small.softmax,
        "ttt of one wide head": replace(small.ttt, **stem, ttt=TttConfig(num_heads=1)),
        "softmax with a stem": replace(small.softmax, **stem),
    }


def _map_and_query(config: ModelConfig, device: torch.device, mode: Mode) -> Outputs:
    torch.manual_seed(1)
    network = Vggt3(config, "bf16" if mode == "bf16" else "fp32").eval().requires_grad_(False)
    side = 4 * config.patch_size
    images = torch.rand(6, 3, side, side + config.patch_size)
    network = network.to(device)
    images = images.to(device)
    prediction, memory = network.map(images[:5], chunk=3)
    found = _of(prediction)
    if memory is not None:
        found |= {f"query.{name}": t for name, t in _of(network.query(images[5:], memory)).items()}
        for layer, weights in enumerate(memory.fast_weights):
            found |= {f"layer {layer}.{name}": t for name, t in weights._asdict().items()}
    return found


def _of(prediction: Prediction) -> Outputs:
    found = {
        name: getattr(prediction, name) for name in ("pose_encoding", "depth", "depth_confidence")
    }
    return found if prediction.pointmap is None else {**found, "pointmap": prediction.pointmap}


def _gradients(bench: Bench) -> None:
    """Of the losses of one training step, softmax and converted, by all weights together."""
    config = read_config(bench, "gradients")
    if config is None:
        return
    config = replace(config.hundredth(), scenes=1, pool_groups=1, group_rooms=1)
    batch = ScenePool(config, _CPU).batch(0, 0.0)
    for kind in ("softmax", "ttt"):

        def outputs(device: torch.device, mode: Mode, kind: str = kind) -> Outputs:
            torch.manual_seed(2)
            network = Vggt3(config.model)
            initialise(network)
            network = (network if kind == "softmax" else convert(network, config.ttt_model)).to(
                device
            )
            aid = PatchHead(2 * config.model.embed_dim).to(device)
            there = replace(
                batch, **{name: value.to(device) for name, value in vars(batch).items()}
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=mode == "bf16"):
                output = network(
                    there.images,
                    config.views - config.query_views,
                    config.fit_steps,
                    config.dense_stride,
                )
            loss, _ = total_loss(network, aid, output, there, config)
            loss.backward()
            parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
            return {"loss": loss.detach(), "gradient": torch.cat(parts)}

        _compare(bench, f"gradients {kind}", outputs)


def _rendering(bench: Bench) -> None:
    """Depth and images of the same views; at the edges of things rounding decides, so those pixels
    are counted.
    """

    def views(device: torch.device) -> Outputs:
        generator = torch.Generator().manual_seed(3)
        rooms = make_rooms(range(4), _CPU)
        poses = training_views(rooms, 4, generator, 1.0)
        rendered = render(
            make_rooms(range(4), device), poses, random_intrinsics(4, 96, 128, generator), 96, 128
        )
        return {"depth": rendered.depth.cpu(), "images": rendered.images.cpu()}

    there = views(bench.device)
    here = views(_CPU)
    far = ((there["depth"] - here["depth"]).abs() > 1e-3 * here["depth"]).float().mean()
    unlike = ((there["images"] - here["images"]).abs().amax(2) > 0.02).float().mean()
    missed = max(float(far), float(unlike))
    okay = missed <= _MISSED_PIXELS
    text = (
        f"{_verdict(okay)}: {100 * float(far):.3f} % of depths and {100 * float(unlike):.3f} % of"
        " pixels differ"
    )
    bench.record(
        "rendering",
        text,
        ok=okay,
        depth_share=float(far),
        image_share=float(unlike),
        limit=_MISSED_PIXELS,
    )


def _compare(
    bench: Bench,
    name: str,
    outputs: Callable[[torch.device, Mode], Outputs],
    truth: Outputs | None = None,
) -> None:
    """A row for each kind of arithmetic; without `truth`, the CPU's fp32 is it."""
    truth = outputs(_CPU, "fp32") if truth is None else truth
    by_cpu = outputs(_CPU, "bf16")
    rounded = max(_errors(by_cpu, truth).values())
    modes: tuple[Mode, ...] = (
        ("fp32", "tf32", "bf16") if bench.device.type == "cuda" else ("fp32", "bf16")
    )
    for mode in modes:
        limit = max(_MIN_BF16, _LIMITS[mode] * rounded) if mode == "bf16" else _LIMITS[mode]
        with _arithmetic(mode):
            repeated = bench.device == _CPU and mode == "bf16"
            errors = _errors(by_cpu if repeated else outputs(bench.device, mode), truth)
        worst = max(
            errors,
            key=lambda output: errors[output] if errors[output] == errors[output] else float("inf"),
        )
        okay = errors[worst] <= limit
        text = f"{_verdict(okay)}: off by {errors[worst]:.1e} ({worst}), at most {limit:.0e}"
        figures: dict[str, Any] = {
            "ok": okay,
            "errors": errors,
            "limit": limit,
            "cpu_bf16": rounded,
        }
        bench.record(f"{name}, {mode}", text, mode=mode, **figures)


def _verdict(okay: bool) -> str:
    return "ok" if okay else "NOT OK"


def _errors(found: Outputs, truth: Outputs) -> dict[str, float]:
    """||found - truth|| / ||truth|| by name, in fp64."""
    errors = {}
    for name, expected in truth.items():
        expected = expected.double()
        missed = found[name].detach().cpu().double().view_as(expected) - expected
        errors[name] = float(
            torch.linalg.vector_norm(missed) / torch.linalg.vector_norm(expected).clamp(min=1e-12)
        )
    return errors


@contextmanager
def _arithmetic(mode: Mode) -> Iterator[None]:
    """fp32 without tf32; tf32 wherever torch can be set so; bf16 is the network's business, all
    else is as usual.
    """
    if mode == "bf16":
        yield
        return
    matmul = torch.backends.cuda.matmul
    conv = torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = mode == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before
