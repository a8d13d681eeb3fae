"""The reference flow: mapping with our weights, executed plainly as the authors' memory-efficient
mode does it (arXiv 2602.23361). What `vggt3 bench gpu` holds ours against.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.reference_layers import embed, frame_block, global_block
from vggt3_ros.errors import InputError
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import autocast_to
from vggt3_ros.model.prediction import LayerMemory, Prediction, SceneMemory
from vggt3_ros.progress import StageProgress

WINDOW = 20 * 37 * 37
"""Tokens that pass a global block together."""
_DECODED_BYTES = 1000 * 2**20  # that a frame is reckoned to take in a dense head
_FREE_USED = 0.8
_DECODED_ON_CPU = 8  # frames, where free memory does not say
# of the largest map in a dense head: channels-last kernels count in 32 bits
_MOST_VALUES = 2**31 - 1


def _unheard(stage: str, fraction: float) -> None:
    pass


@torch.no_grad()
def map_plainly(
    network: Vggt3,
    images: Tensor,
    steps: int = 2,
    window: int = WINDOW,
    progress: StageProgress = _unheard,
) -> tuple[Prediction, SceneMemory]:
    """As `Vggt3.map` of images (S, 3, H, W) that are on the network's device, with the camera
    tokens of all frames in the memory.

    All frames pass layer by layer; backbone and frame blocks see them at once, global blocks pass
    `window` tokens at a time. The tapped maps [frame, global] wait in host memory, in fp32, 32 KB a
    token in the published network. Every frame's camera token attends to every other's.
    """
    if network.config.attn != "ttt":
        raise InputError("the reference flow is that of fast weights; give a network with ttt")
    tapped, weights = _encode(network, images, steps, window, progress)
    camera_tokens = tapped[-1][:, 0].to(network.device)
    encoding = network.camera_head(camera_tokens[None])[-1, 0]
    grid = network.aggregator.grid(images)
    depth = _decode(network, network.depth_head, tapped, grid)
    points: tuple[Tensor | None, Tensor | None] = None, None
    if network.point_head is not None:
        points = _decode(network, network.point_head, tapped, grid)
    progress("heads", 1.0)
    prediction = Prediction(encoding, *depth, *points)
    memory = {layer: LayerMemory(fitted) for layer, fitted in enumerate(weights)}
    return prediction, SceneMemory(memory, camera_tokens)


def tapped_bytes(network: Vggt3, frames: int, image_hw: tuple[int, int]) -> int:
    """Host memory that the tapped maps of so many images take."""
    config = network.config
    patches = image_hw[0] * image_hw[1] // config.patch_size**2
    tokens = patches + network.aggregator.special
    return len(config.intermediate_layers) * frames * tokens * 2 * config.embed_dim * 4


def _encode(
    network: Vggt3, images: Tensor, steps: int, window: int, progress: StageProgress
) -> tuple[list[Tensor], list[FastWeights]]:
    """Tapped maps (S, P, 2C) in host memory, and the fast weights of every layer."""
    aggregator = network.aggregator
    grid = aggregator.grid(images)
    rope = aggregator.rope(grid, bf16=network.precision == "bf16")
    tapped, weights = [], []
    with autocast_to(network.precision, images.device):
        tokens = embed(aggregator, images)
        progress("backbone", 0.0)
        for layer in range(network.config.depth):
            done = layer / network.config.depth
            within = frame_block(aggregator.frame_blocks[layer], tokens, rope)
            del tokens
            progress("frame blocks", done)
            block = aggregator.global_block(layer)
            tokens, fitted = global_block(block, within, rope, grid, steps, window)
            weights.append(fitted)
            progress("global blocks", done)
            if layer in network.config.intermediate_layers:
                tapped.append(torch.cat([within, tokens], dim=-1).cpu())
                progress("to the host", done)
            del within
    return tapped, weights


def _decode(
    network: Vggt3, head: DptHead, tapped: list[Tensor], grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """A dense head's values and confidence, a batch of frames after another."""
    special = network.aggregator.special
    frames = len(tapped[0])
    batch = _decoded_together(network, grid)
    values, confidences = [], []
    for start in range(0, frames, batch):
        levels = []
        for number, level in enumerate(tapped):
            there = level[start : start + batch].to(network.device)
            levels.append(head.project(there[:, special:], number, grid))
        value, confidence = head.decode(levels)
        values.append(value)
        confidences.append(confidence)
    return torch.cat(values), torch.cat(confidences)


def _decoded_together(network: Vggt3, grid: tuple[int, int]) -> int:
    """Frames for which there is memory in a dense head, and whose values 32 bits can count."""
    if network.device.type != "cuda":
        return _DECODED_ON_CPU
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(network.device)
    pixels = grid[0] * grid[1] * network.config.patch_size**2
    countable = _MOST_VALUES // (pixels * network.config.dpt_features // 2)
    return max(1, min(math.floor(_FREE_USED * free / _DECODED_BYTES), countable))
