"""The network reproduces the expected outputs of the specification, whatever the chunk and however
it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vggt3_ros.model import network as network_module
from vggt3_ros.model.checkpoint import load_weights
from vggt3_ros.model.compiling import compile_inference
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.kernels import TorchOperations
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory

from ..conftest import GOLDEN

CASES = ["dev_vggt_softmax", "dev_vggttt_step1", "dev_vggttt_step2", "dev_vggttt_mapquery"]


def assert_close(name: str, actual: Tensor, expected: Tensor) -> None:
    """The specification's tolerance: 2e-5 of the largest expected value, or of 1."""
    assert actual.shape == expected.shape, name
    error = float((actual - expected).abs().max())
    assert error <= 2e-5 * max(1.0, float(expected.abs().max())), f"{name} is off by {error:.2e}"


@cache
def load_case(case: str) -> tuple[dict, Vggt3, dict[str, Tensor]]:
    """A case's description, its network with weights, and its tensors."""
    description = json.loads((GOLDEN / f"{case}.json").read_text())
    network = Vggt3(ModelConfig.from_dict(description["config"])).eval()
    load_weights(network, GOLDEN / description["state_file"])
    return description, network, load_file(GOLDEN / f"{case}.data.safetensors")


def compare(prefix: str, prediction: Prediction, expected: dict[str, Tensor]) -> None:
    """Every output of one run."""
    cameras = prediction.cameras
    outputs = {
        "pose_enc": prediction.pose_encoding,
        "extrinsic": cameras.cam_from_world,
        "pose": cameras.world_from_cam,
        "intrinsics": cameras.intrinsics,
        "depth": prediction.depth[..., None],
        "depth_conf": prediction.depth_confidence,
        "point_map": prediction.pointmap,
        "point_conf": prediction.pointmap_confidence,
        "point_map_from_depth": cameras.points(prediction.depth),
    }
    for name, actual in outputs.items():
        assert_close(f"{prefix}.{name}", actual, expected[f"{prefix}.{name}"])


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("case", CASES)
def test_outputs_match_for_every_chunk(case: str, chunk: int) -> None:
    description, network, tensors = load_case(case)
    memory: SceneMemory | None = None
    for run in description["runs"]:
        images, prefix = tensors[run["images"]], run["prefix"]
        if run["call"] == "query":
            prediction = network.query(images, memory, chunk)
        else:
            prediction, memory = network.map(images, run.get("num_ttt_steps", 1), chunk)
        compare(prefix, prediction, tensors)


def as_is(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
    """A compiler that leaves graphs as they are."""
    return graph.forward


@pytest.mark.parametrize("way", ["frames pass once more", "host memory", "operations", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_match_for_every_execution(case: str, way: str, monkeypatch) -> None:
    description, network, tensors = load_case(case)
    residents = {"frames pass once more": "stream", "host memory": "none"}
    if way in residents and (way == "host memory" or network.config.attn == "ttt"):
        monkeypatch.setattr(network, "map", partial(network.map, resident=residents[way]))
    if way == "operations":
        network.use_operations(TorchOperations())
    if way == "compiled":
        monkeypatch.setattr(
            network_module, "compile_inference", partial(compile_inference, backend=as_is)
        )
        network.execute(Execution(compiled=True))
    try:
        test_outputs_match_for_every_chunk(case, 2)
    finally:
        network.execute(Execution())


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("case", CASES[1:])
def test_scene_memory_matches(case: str, chunk: int) -> None:
    description, network, tensors = load_case(case)
    run = description["runs"][0]
    _, memory = network.map(tensors[run["images"]], run["num_ttt_steps"], chunk)
    assert memory is not None
    assert_close("camera_tokens", memory.camera_tokens, tensors[f"{run['prefix']}.cam_tokens"])
    for layer, weights in memory.layers.items():
        for name, weight in weights.tensors().items():
            assert_close(
                f"fast.{layer}.{name}",
                weight,
                tensors[f"{run['prefix']}.inter.fast.{layer}.{name}"],
            )


@pytest.mark.parametrize("case", ["dev_vggttt_step2", "dev_vggt_softmax"])
def test_training_forward_gives_the_intermediate_tokens(case: str) -> None:
    description, network, tensors = load_case(case)
    with torch.no_grad():
        output = network(
            tensors["in.images"][None], steps=description["runs"][0].get("num_ttt_steps", 1)
        )
    for index, tapped in enumerate(output.tapped):
        within, across = tapped[0].chunk(2, dim=-1)
        assert_close(f"frame.{index}", within, tensors[f"out.inter.tokens.frame.{index}"])
        assert_close(
            f"global.{index}",
            across.flatten(0, 1)[None],
            tensors[f"out.inter.tokens.global.{index}"],
        )
    assert_close("pose_enc_iters", output.pose_encodings[:, 0], tensors["out.pose_enc_iters"])
    assert_close("depth", output.depth[0, ..., None], tensors["out.depth"])


def test_frames_of_two_processes_hold_the_camera_tokens_of_one() -> None:
    """The two-process case of the specification: its tokens equal ours, its camera head saw only
    half of them.
    """
    description, network, tensors = load_case("dev_vggttt_step2")
    ranks = load_file(GOLDEN / "dev_sp2.safetensors")
    _, memory = network.map(tensors["in.images"], steps=2)
    assert memory is not None
    assert_close(
        "cam_tokens",
        memory.camera_tokens,
        torch.cat([ranks["rank0.cam_tokens"], ranks["rank1.cam_tokens"]]),
    )
    for rank, tokens in (("rank0", memory.camera_tokens[:3]), ("rank1", memory.camera_tokens[3:])):
        with torch.no_grad():
            assert_close(
                rank, network.camera_head(tokens[None])[:, 0], ranks[f"{rank}.pose_enc_iters"]
            )
