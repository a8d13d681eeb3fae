"""Rows that say whether every fast path computes what the plain one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.comparing import Mode, Outputs, compare_in, find_truth, verdict
from vggt3_ros.cli.bench.gpu.networks import execute, forget_compiled
from vggt3_ros.cli.bench.gpu.paths import executions
from vggt3_ros.cli.bench.gpu.reference import map_plainly
from vggt3_ros.cli.bench.gpu.sizes import Sizes
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory

_MAPPED = 5  # images of a scene
_QUERIES = 3  # one as it is, one as a graph is recorded, one that is replayed
_CHUNK = 3  # frames
_WINDOW = 60  # tokens
_COMPILING_S = 25.0  # that compiling may take

MapImages = Callable[[Tensor], tuple[Prediction, SceneMemory]]
Path = Callable[[Vggt3], MapImages]
"""Sets a network to what is checked, and returns how it maps."""


def check_paths(bench: Bench, compiled: bool) -> None:
    """Each fast path alone and all together, each place of what a map keeps, bf16 weights, and the
    reference flow, in bf16; kernels in fp32, too: those with compiled blocks, which take a while,
    or those without. Fast weights of every layer, and the outputs, of some random scenes. What a
    map leaves in host memory changes no bit.
    """
    if compiled and bench.device.type != "cuda":
        reason = "left out: networks are compiled on GPUs alone"
        bench.record("compiled paths", reason, skipped="not on a GPU")
        return
    if compiled:
        forget_compiled(bench)
    config = _small_network()
    truth = find_truth(partial(map_and_query, config, bench.sizes.scenes))
    for name, path in _paths(bench, compiled).items():
        modes: tuple[Mode, ...] = ("fp32", "bf16") if name == "kernels alone" else ("bf16",)
        if compiled and not bench.fits(f"path {name}", _COMPILING_S):
            continue
        compute = partial(map_and_query, config, bench.sizes.scenes, path=path)
        work = partial(compare_in, bench, f"path {name}", compute, truth, modes)
        bench.attempt(f"path {name}", work)
    if not compiled:
        for name in ("none", "kernels and graphs"):
            residence = f"resident none as all, {name}"
            execution = executions()[name]
            bench.attempt(residence, partial(check_residence, bench, residence, config, execution))


def _small_network() -> ModelConfig:
    """With heads of the published width, so that kernels are those of the published network."""
    return replace(Sizes.dry().ttt, embed_dim=128, ttt=TttConfig())


def _paths(bench: Bench, compiled: bool) -> dict[str, Path]:
    plain = Execution()
    paths: dict[str, Path] = {}
    for name, execution in executions().items():
        if execution != plain and execution.compiled == compiled:
            paths[name] = partial(_set, bench, execution)
    if not compiled:
        for resident in ("stream", "none"):
            paths[f"resident {resident}"] = partial(_set, bench, plain, resident=resident)
        paths["bf16 weights"] = _rounded
        paths["reference flow"] = _reference
    return paths


def _set(bench: Bench, execution: Execution, network: Vggt3, **of_map: Any) -> MapImages:
    execute(bench, network, execution)
    return partial(network.map, chunk=_CHUNK, **of_map)


def _rounded(network: Vggt3) -> MapImages:
    network.round_weights()
    return _as_it_is(network)


def _reference(network: Vggt3) -> MapImages:
    return partial(map_plainly, network, window=_WINDOW)


def _as_it_is(network: Vggt3) -> MapImages:
    return partial(network.map, chunk=_CHUNK)


def map_and_query(
    config: ModelConfig, scenes: int, device: torch.device, mode: Mode, path: Path = _as_it_is
) -> Outputs:
    """What a random network says of random scenes: images that are mapped, the fast weights of
    every layer, and other images, localized one by one in all scenes in turn, then in the first
    again. Raises RuntimeError where the network gave up a fast path meanwhile.
    """
    network, images = _random(config, mode, scenes, _MAPPED + _QUERIES)
    network = network.to(device)
    images = images.to(device)
    map_images = path(network)
    execution = network.execution
    found: Outputs = {}
    memories: list[SceneMemory] = []
    for scene in range(scenes):
        prediction, memory = map_images(images[scene, :_MAPPED])
        named = _mapped(prediction, memory)
        found |= {f"scene {scene}.{name}": tensor for name, tensor in named.items()}
        memories.append(memory)
    for turn, scene in enumerate([*range(scenes), 0]):
        memory = memories[scene]
        for query in range(_QUERIES if memory is not None else 0):
            image = images[scene, _MAPPED + query][None]
            named = predicted(network.query(image, memory))
            prefix = f"turn {turn}.query {query}"
            found |= {f"{prefix}.{name}": tensor for name, tensor in named.items()}
    if network.execution != execution:
        raise RuntimeError(f"it executed {network.execution} instead of {execution}")
    return found


def check_residence(bench: Bench, name: str, config: ModelConfig, execution: Execution) -> None:
    """A row: whether maps that leave everything in host memory, frame by frame, are the same to the
    bit as those that stay on the device.
    """
    network, scenes = _random(config, "bf16", bench.sizes.scenes, bench.sizes.bounded)
    network = network.to(bench.device)
    execute(bench, network, execution)
    apart: set[str] = set()
    repeated = True
    for images in scenes.to(bench.device):
        kept, again = (_mapped(*network.map(images, chunk=1)) for _ in range(2))
        left = _mapped(*network.map(images, chunk=1, resident="none"))
        for output, there in kept.items():
            repeated &= torch.equal(again[output], there)
            if not torch.equal(left[output].to(bench.device), there):
                apart.add(output)
    text = f"{verdict(not apart)}: "
    text += f"other bits of {', '.join(sorted(apart))}" if apart else "the same bits"
    if not repeated:
        text += "; those on the device differ from one map to the next"
    bench.record(name, text, ok=not apart, apart=sorted(apart), repeated=repeated)


def _random(config: ModelConfig, mode: Mode, scenes: int, frames: int) -> tuple[Vggt3, Tensor]:
    """A network, and images (scenes, frames, 3, H, W)."""
    torch.manual_seed(1)
    network = Vggt3(config, "bf16" if mode == "bf16" else "fp32").eval().requires_grad_(False)
    side = 4 * config.patch_size
    return network, torch.rand(scenes, frames, 3, side, side + config.patch_size)


def _mapped(prediction: Prediction, memory: SceneMemory) -> Outputs:
    """What is compared of a map."""
    named = predicted(prediction)
    for layer, known in memory.layers.items():
        named |= {f"layer {layer}.{name}": part for name, part in known.tensors().items()}
    return named


def predicted(prediction: Prediction) -> Outputs:
    """What is compared of a prediction."""
    named = {
        "pose_encoding": prediction.pose_encoding,
        "depth": prediction.depth,
        "depth_confidence": prediction.depth_confidence,
    }
    return named if prediction.pointmap is None else {**named, "pointmap": prediction.pointmap}
