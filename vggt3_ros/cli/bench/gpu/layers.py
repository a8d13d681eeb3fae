"""Step `layers`: one layer of each kind, against the floor that arithmetic and memory set, and by
kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread
from vggt3_ros.cli.bench.gpu.flop import count_flop
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.block import Block
from vggt3_ros.model.camera_head import CameraHead
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.precision import without_autocast
from vggt3_ros.model.rope import RopeTable, rope_table
from vggt3_ros.model.ttt_attention import TttAttention

_STEPS = 2
_KERNELS = 12  # that are listed

Work = Callable[[], Tensor]
Layer = tuple[nn.Module, list[Tensor], Work]
"""A layer, what goes into it, and what it does with that."""


def run(bench: Bench) -> None:
    """Blocks of the backbone, within frames and between frames, the depth head and the camera
    head.
    """
    for name, build in _kinds(bench).items():
        if bench.fits(name, 2 * bench.sizes.moment_s):
            bench.attempt(name, partial(_measure, bench, name, build))


def _kinds(bench: Bench) -> dict[str, Callable[[], Layer]]:
    """By name, what makes a layer: one is freed before the next is made."""
    config = bench.sizes.ttt
    chunk = max(bench.sizes.chunks)
    many = bench.sizes.mapped[-2]
    few = bench.sizes.softmax_mapped[0]
    return {
        "global block, fast weights": lambda: _global(bench, config, chunk),
        "frame block": lambda: _block(bench, config, chunk),
        "backbone block": lambda: _block(bench, config, chunk, backbone=True),
        "global block, softmax": lambda: _global(bench, bench.sizes.softmax, few),
        "depth head": lambda: _depth_head(bench, config, chunk),
        "camera head": lambda: _camera_head(bench, config, many),
    }


def _grid(bench: Bench, config: ModelConfig) -> tuple[int, int]:
    height, width = bench.sizes.image_hw
    return height // config.patch_size, width // config.patch_size


def _tokens(bench: Bench, config: ModelConfig, frames: int) -> Tensor:
    rows, columns = _grid(bench, config)
    special = 1 + config.num_register_tokens
    return torch.randn(frames, special + rows * columns, config.embed_dim, device=bench.device)


def _rope(bench: Bench, config: ModelConfig) -> RopeTable:
    width = config.embed_dim // config.num_heads
    special = 1 + config.num_register_tokens
    return rope_table(
        _grid(bench, config), special, width, config.rope_freq, bench.device, bf16=True
    )


def _block(bench: Bench, config: ModelConfig, frames: int, backbone: bool = False) -> Layer:
    """A chunk of frames, each for itself."""
    dim = config.embed_dim
    with bench.device:
        heads = config.dino_num_heads if backbone else config.num_heads
        block = Block(dim, SoftmaxAttention(dim, heads, qk_norm=not backbone))
    tokens = _tokens(bench, config, frames)
    rope = None if backbone else _rope(bench, config)
    return block, [tokens], lambda: block(tokens, rope)


def _global(bench: Bench, config: ModelConfig, frames: int) -> Layer:
    """All frames at once; with fast weights, fitted in two steps and asked."""
    dim = config.embed_dim
    attn: SoftmaxAttention | TttAttention
    with bench.device:
        if config.ttt is not None:
            attn = TttAttention(dim, config.num_heads, config.ttt)
        else:
            attn = SoftmaxAttention(dim, config.num_heads, qk_norm=True)
        block = Block(dim, attn)
    tokens = _tokens(bench, config, frames)
    rope = _rope(bench, config)
    grid = _grid(bench, config)

    def work() -> Tensor:
        attended = attn.attend_frames(block.norm1(tokens)[None], frames, _STEPS, rope, grid)[0]
        return block.finish(tokens, attended)

    return block, [tokens], work


def _depth_head(bench: Bench, config: ModelConfig, frames: int) -> Layer:
    """A chunk of frames, in fp32 as it is used."""
    grid = _grid(bench, config)
    with bench.device:
        head = DptHead(
            2 * config.embed_dim,
            config.patch_size,
            config.dpt_features,
            config.dpt_out_channels,
            "depth",
        )
    levels = [
        torch.randn(frames, width, *grid, device=bench.device) for width in config.dpt_out_channels
    ]

    def work() -> Tensor:
        with without_autocast(bench.device):
            return head.decode(levels)[0]

    return head, levels, work


def _camera_head(bench: Bench, config: ModelConfig, frames: int) -> Layer:
    """All frames of a map, in fp32 as it is used."""
    dim = 2 * config.embed_dim
    with bench.device:
        head = CameraHead(
            dim, config.camera_num_heads, config.camera_trunk_depth, config.camera_iterations
        )
    tokens = torch.randn(1, frames, dim, device=bench.device)

    def work() -> Tensor:
        with without_autocast(bench.device):
            return head(tokens)

    return head, [tokens], work


@torch.no_grad()
def _measure(bench: Bench, name: str, build: Callable[[], Layer]) -> None:
    """A row: seconds, the floor, and the kernels that take most of them."""
    module, inputs, work = build()
    # as in a network that maps, whose weights autocast rounds anew at every use
    module.requires_grad_(False)
    with torch.autocast(bench.device.type, torch.bfloat16):
        out: list[Tensor] = []
        flop = count_flop(lambda: out.append(work()))
        moved = sum(t.nbytes for t in (*inputs, *module.parameters(), *out))
        out.clear()
        seconds, spread = median_and_spread(bench.seconds(work))
        kernels = _kernels(bench, work)
    # torch computes convolutions in tf32 unless it is set otherwise
    kinds = {"depth head": "tf32", "camera head": "fp32"}
    floors = {"product": (flop, kinds.get(name, "bf16")), "copy": (moved, "copy")}
    times = {key: n / bench.ceilings[of] for key, (n, of) in floors.items() if of in bench.ceilings}
    text = f"{1e3 * seconds:.2f} ms, {flop / seconds / 1e12:.1f} TFLOP/s"
    if len(times) == 2:
        text += (
            f", {seconds / max(times.values()):.1f} times the floor"
            f" ({max(times, key=lambda key: times[key])})"
        )
    if kernels:
        text += f"; most in {kernels[0]['name'][:40]} ({100 * kernels[0]['share']:.0f} %)"
    figures = {
        "shapes": [list(t.shape) for t in inputs],
        "flop": flop,
        "least_bytes": moved,
        "floor_s": times,
    }
    peak = bench.peak_bytes()
    bench.record(
        name, text, seconds=seconds, spread=spread, kernels=kernels, peak_bytes=peak, **figures
    )


def _kernels(bench: Bench, work: Work) -> list[dict[str, Any]]:
    """What the device spent its time on in one run: name, calls, seconds, fraction of all."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = bench.device.type == "cuda"
    with profile(
        activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
    ) as profiler:
        work()
        bench.synchronize()
    field = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [
        (event.key, event.count, getattr(event, field) / 1e6) for event in profiler.key_averages()
    ]
    whole = sum(seconds for *_, seconds in rows)
    rows.sort(key=lambda row: -row[2])
    return [
        {"name": key, "calls": count, "seconds": seconds, "share": seconds / whole}
        for key, count, seconds in rows[:_KERNELS]
        if seconds > 0
    ]
