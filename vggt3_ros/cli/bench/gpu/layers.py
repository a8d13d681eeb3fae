"""Step `layers`: one layer of each kind, with kernels of ours and without, against the floor that
arithmetic and memory set, and by kernels; then a whole map by kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread
from vggt3_ros.cli.bench.gpu.flop import count_flop
from vggt3_ros.cli.bench.gpu.kernel_profile import own_floors, profile, told
from vggt3_ros.cli.bench.gpu.networks import build, execute, execute_as_chosen, random_images
from vggt3_ros.cli.bench.gpu.timed_map import STEPS
from vggt3_ros.model.anchors import choose_anchors
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import without_autocast
from vggt3_ros.model.scene_views import Place, make_view
from vggt3_ros.model.streaming import Passage, Reporter
from vggt3_ros.pipeline.memory_check import fit_map

_LISTED = 12  # kernels of a layer
_LISTED_OF_MAP = 15
_TOLD, _TOLD_OF_MAP = 3, 6  # of them, to people

Work = Callable[[], Tensor]
Layer = tuple[nn.Module, list[Tensor], Work]
"""A layer, what goes into it, and what it does with that."""


def run(bench: Bench) -> None:
    """Blocks between frames and within them, of the backbone, the heads; then a map."""
    plain, kernels = Execution(), replace(Execution(), kernels=True)
    for name, (build_layer, has_kernels) in _kinds(bench).items():
        for execution in (kernels, plain) if has_kernels else (plain,):
            label = f"{name}, kernels" if execution.kernels else name
            if bench.fits(label, 3 * bench.sizes.moment_s):
                bench.attempt(label, partial(_measure, bench, label, build_layer, execution))
    bench.attempt("whole map", partial(_whole_map, bench))


def _kinds(bench: Bench) -> dict[str, tuple[Callable[[Execution], Layer], bool]]:
    """By name, what makes a layer, and whether kernels of ours are in it: one is freed before the
    next is made.
    """
    sizes = bench.sizes
    few = sizes.softmax_mapped[0]
    return {
        "global block, fast weights": (partial(_global, bench, sizes.ttt, sizes.layer), True),
        "frame block": (partial(_frame, bench, sizes.ttt, sizes.layer), True),
        "backbone block": (partial(_backbone, bench, sizes.ttt, sizes.layer), False),
        "depth head": (partial(_depth_head, bench, sizes.ttt, sizes.layer), False),
        "global block, softmax": (partial(_global, bench, sizes.softmax, few), True),
        "camera head": (partial(_camera_head, bench, sizes.ttt, sizes.goal), False),
    }


def _few_layers(bench: Bench, config: ModelConfig, execution: Execution) -> Vggt3:
    """As wide as the network, and no deeper than a network can be."""
    depth = len(config.intermediate_layers)
    network = build(
        bench,
        replace(config, depth=depth, intermediate_layers=(0, 1, 2, 3), dino_depth=1),
    )
    execute(bench, network, execution)
    return network


def _tokens(bench: Bench, network: Vggt3, frames: int) -> Tensor:
    rows, columns = network.aggregator.grid(random_images(bench, 1))
    count = network.aggregator.special + rows * columns
    return torch.randn(frames, count, network.config.embed_dim, device=bench.device)


def _passage(bench: Bench, network: Vggt3) -> Passage:
    return Passage(network, random_images(bench, 1), Reporter(None, 1))


def _frame(bench: Bench, config: ModelConfig, frames: int, execution: Execution) -> Layer:
    """A chunk of frames, each for itself."""
    network = _few_layers(bench, config, execution)
    tokens, passage = _tokens(bench, network, frames), _passage(bench, network)
    block = network.aggregator.frame_blocks[0]
    return block, [tokens], lambda: passage.within(0, tokens)


def _backbone(bench: Bench, config: ModelConfig, frames: int, execution: Execution) -> Layer:
    network = _few_layers(bench, config, execution)
    tokens = _tokens(bench, network, frames)
    blocks: Any = network.aggregator.patch_embed.blocks
    block = blocks[0]
    return block, [tokens], lambda: block(tokens)


def _global(bench: Bench, config: ModelConfig, frames: int, execution: Execution) -> Layer:
    """All frames at once; fast weights are fitted in two steps, then asked."""
    network = _few_layers(bench, config, execution)
    tokens, passage = _tokens(bench, network, frames), _passage(bench, network)
    block = network.aggregator.global_block(0)
    attn = network.aggregator.global_attention(0)

    def work() -> Tensor:
        view = make_view(attn, Place(passage.rope, passage.grid))
        for _ in range(STEPS if config.has_fast_weights else 1):
            view.see(passage.normed(0, tokens))
            view.seen_all()
        return passage.across(0, tokens, view)

    return block, [tokens], work


def _depth_head(bench: Bench, config: ModelConfig, frames: int, execution: Execution) -> Layer:
    """A chunk of frames, in fp32 as it is used."""
    network = _few_layers(bench, config, execution)
    grid = network.aggregator.grid(random_images(bench, 1))
    levels = []
    for width in config.dpt_out_channels:
        levels.append(torch.randn(frames, width, *grid, device=bench.device))

    def work() -> Tensor:
        with without_autocast(bench.device):
            return network.depth_head.decode(levels)[0]

    return network.depth_head, levels, work


def _camera_head(bench: Bench, config: ModelConfig, frames: int, execution: Execution) -> Layer:
    """All frames of a map, in fp32 as it is used: linear in them."""
    network = _few_layers(bench, config, execution)
    tokens = torch.randn(frames, 2 * config.embed_dim, device=bench.device)

    def work() -> Tensor:
        with without_autocast(bench.device):
            return network.camera_head.forward_anchored(tokens[None], choose_anchors(tokens))

    return network.camera_head, [tokens], work


@torch.no_grad()
def _measure(
    bench: Bench, name: str, build_layer: Callable[[Execution], Layer], execution: Execution
) -> None:
    """A row: seconds, the floor, and the kernels that take most of them."""
    flop = _flop(bench, build_layer)
    bench.free()
    module, inputs, work = build_layer(execution)
    with torch.autocast(bench.device.type, torch.bfloat16):
        out = work()
        moved = sum(t.nbytes for t in (*inputs, *module.parameters(), out))
        del out
        seconds, spread = median_and_spread(bench.seconds(work))
        rows = inputs[0].shape[:-1].numel()
        floors = own_floors(bench, bench.sizes.ttt, rows)
        kernels = profile(bench, work, _LISTED, floors)
    # torch computes convolutions in tf32 unless it is set otherwise
    kind = {"depth head": "tf32", "camera head": "fp32"}.get(name, "bf16")
    bounds = {"product": (flop, kind), "copy": (moved, "copy")}
    times = {key: n / bench.ceilings[of] for key, (n, of) in bounds.items() if of in bench.ceilings}
    text = f"{1e3 * seconds:.2f} ms, {flop / seconds / 1e12:.1f} TFLOP/s"
    if len(times) == len(bounds):
        slowest = max(times, key=lambda key: times[key])
        text += f", at {100 * times[slowest] / seconds:.0f} % of its floor ({slowest})"
    text += f"; most in {told(kernels, _TOLD)}"
    figures: dict[str, Any] = {"shapes": [list(t.shape) for t in inputs], "flop": flop}
    figures |= {"least_bytes": moved, "floor_s": times, "peak_bytes": bench.peak_bytes()}
    bench.record(name, text, seconds=seconds, spread=spread, kernels=kernels, **figures)


def _flop(bench: Bench, build_layer: Callable[[Execution], Layer]) -> int:
    """Of the layer executed plainly: torch does not see into kernels of ours."""
    _, _, work = build_layer(Execution())
    with torch.autocast(bench.device.type, torch.bfloat16):
        return count_flop(work)


def _whole_map(bench: Bench) -> None:
    """A row: where the time of a map goes, by kernels, as it is executed."""
    network = build(bench, bench.sizes.ttt)
    execute_as_chosen(bench, network)
    frames = bench.sizes.paths
    images = random_images(bench, frames)
    chunk = fit_map(network, frames, bench.sizes.image_hw).chunk
    network.map(images, STEPS, chunk)
    kernels = profile(bench, lambda: network.map(images, STEPS, chunk), _LISTED_OF_MAP, {})
    text = f"{frames} frames, most in {told(kernels, _TOLD_OF_MAP)}"
    bench.record("whole map", text, frames=frames, chunk=chunk, kernels=kernels)
