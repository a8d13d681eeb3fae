"""Mapping and querying: no hidden state, honest refusals, small memory, reduced precision close to
the truth.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory

from ..conftest import make_network, small_config
from .live_bytes import LiveBytes


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 56, 70, generator=torch.Generator().manual_seed(seed))


def test_mapping_twice_gives_the_same_answer(small_network) -> None:
    first, memory = small_network.map(images(4))
    small_network.query(images(2, seed=2), memory)
    small_network.map(images(3, seed=3))
    second, again = small_network.map(images(4))
    assert torch.equal(first.pose_encoding, second.pose_encoding)
    assert all(
        torch.equal(a, b)
        for a, b in zip(memory.tensors().values(), again.tensors().values(), strict=True)
    )


def test_queries_do_not_change_the_memory_and_depend_on_it(small_network) -> None:
    _, memory = small_network.map(images(4))
    before = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    query = images(1, seed=2)
    here = small_network.query(query, memory)
    assert all(torch.equal(before[name], tensor) for name, tensor in memory.tensors().items())
    _, elsewhere = small_network.map(images(4, seed=9))
    assert not torch.allclose(here.depth, small_network.query(query, elsewhere).depth)


def test_a_querys_depth_does_not_depend_on_its_companions(small_network) -> None:
    _, memory = small_network.map(images(4))
    queries = images(3, seed=2)
    together, alone = (
        small_network.query(queries, memory),
        small_network.query(queries[1:2], memory),
    )
    torch.testing.assert_close(together.depth[1:2], alone.depth, rtol=1e-5, atol=1e-5)


def test_the_first_frame_alone_is_the_reference(small_network) -> None:
    frames = images(4)
    swapped, _ = small_network.map(frames[[0, 2, 1, 3]])
    straight, _ = small_network.map(frames)
    torch.testing.assert_close(
        swapped.pose_encoding[[0, 2, 1, 3]], straight.pose_encoding, rtol=1e-4, atol=1e-4
    )
    rotated, _ = small_network.map(frames[[1, 2, 3, 0]])
    assert not torch.allclose(
        rotated.pose_encoding[[3, 0, 1, 2]], straight.pose_encoding, atol=1e-3
    )


def test_memory_has_a_fixed_size_but_for_camera_tokens(small_network) -> None:
    sizes = [small_network.map(images(count))[1].nbytes for count in (2, 6)]
    assert sizes[1] - sizes[0] == 4 * 4 * 2 * small_network.config.embed_dim


def test_one_wide_head_holds_all_that_attention_heads_would() -> None:
    config = small_config()
    network = Vggt3(replace(config, ttt=replace(config.ttt, num_heads=1))).eval()
    _, memory = network.map(images(3))
    assert memory is not None
    dim = config.embed_dim
    assert memory.layers[0].fast_weights.w0.shape == (1, dim, config.ttt.mlp_ratio * dim)
    assert torch.isfinite(network.query(images(1), memory).depth).all()


def test_memory_survives_as_named_tensors(small_network) -> None:
    _, memory = small_network.map(images(3))
    copy = SceneMemory.from_tensors(memory.tensors())
    query = images(1, seed=2)
    assert torch.equal(
        small_network.query(query, memory).pose_encoding,
        small_network.query(query, copy).pose_encoding,
    )


def test_incomplete_memory_is_refused(small_network) -> None:
    tensors = small_network.map(images(2))[1].tensors()
    del tensors["global.1.w2"]
    with pytest.raises(SceneError, match=r"global\.1\.w2"):
        SceneMemory.from_tensors(tensors)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((0, 3, 56, 70), "at least 1"),
        ((2, 1, 56, 70), "must be"),
        ((2, 3, 56, 71), "multiples of 14"),
    ],
)
def test_wrong_images_are_refused_with_their_shape(small_network, shape, words) -> None:
    with pytest.raises(InputError, match=words):
        small_network.map(torch.zeros(shape))


def test_progress_rises_to_one_and_can_cancel(small_network) -> None:
    seen: list[tuple[str, float]] = []
    small_network.map(images(5), chunk=2, progress=lambda stage, share: seen.append((stage, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and math.isclose(shares[-1], 1.0)
    assert {stage for stage, _ in seen} == {"backbone", "frame blocks", "global blocks", "heads"}

    def cancel(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_network.map(images(5), progress=cancel)


@pytest.mark.parametrize("resident", ["stream", "none"])
@pytest.mark.parametrize(("steps", "chunk"), [(1, 3), (2, 2), (3, 8)])
def test_what_stays_resident_does_not_change_the_map(small_network, resident, steps, chunk) -> None:
    truth, memory = small_network.map(images(5), steps, chunk)
    prediction, remembered = small_network.map(images(5), steps, chunk, resident=resident)
    assert torch.equal(prediction.pose_encoding, truth.pose_encoding)
    assert torch.equal(prediction.depth, truth.depth)
    assert torch.equal(prediction.pointmap_confidence, truth.pointmap_confidence)
    pairs = zip(remembered.tensors().values(), memory.tensors().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_softmax_network_cannot_let_frames_pass_once_more(softmax_network) -> None:
    in_host, _ = softmax_network.map(images(4), chunk=2, resident="none")
    assert torch.equal(in_host.depth, softmax_network.map(images(4), chunk=2)[0].depth)
    with pytest.raises(InputError, match="resident 'all' or 'none'"):
        softmax_network.map(images(3), resident="stream")


def test_the_last_layer_need_not_feed_the_heads() -> None:
    config = replace(small_config(), depth=5, intermediate_layers=(0, 1, 2, 3))
    network = Vggt3(config).eval().requires_grad_(False)
    truth, _ = network.map(images(4), chunk=2)
    again, _ = network.map(images(4), chunk=2, resident="stream")
    assert torch.equal(truth.depth, again.depth)


@pytest.mark.parametrize("attn", ["ttt", "softmax"])
def test_bf16_stays_near_fp32(attn) -> None:
    network = make_network(attn)
    truth, _ = network.map(images(4))
    network.precision = "bf16"
    rounded, _ = network.map(images(4))
    error = (rounded.depth - truth.depth).norm() / truth.depth.norm()
    assert 0 < error < 0.02
    assert (rounded.pose_encoding - truth.pose_encoding).norm() / truth.pose_encoding.norm() < 0.05


def test_fitting_is_differentiable() -> None:
    network = make_network("ttt").train().requires_grad_(True)
    output = network(images(4).unflatten(0, (1, 4)), map_frames=3)
    # the query frame's pose, learnt from the others
    output.pose_encodings[-1, :, 3].square().sum().backward()
    for block in network.aggregator.global_blocks:
        assert block.attn.lr_fc.weight.grad.abs().sum() > 0


def test_training_queries_see_the_map_alone(small_network, softmax_network) -> None:
    frames = images(4)[None]
    changed = frames.clone()
    changed[:, 3] = images(1, seed=5)[0]
    for network in (small_network, softmax_network):
        before, after = (network(x, map_frames=2).tapped[-1][:, :3] for x in (frames, changed))
        assert torch.equal(before, after)


PEAK = """
import sys, torch
from vggt3_ros.cli.bench.peak_memory import PeakMemory
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3
torch.set_num_threads(1)
config = ModelConfig(patch_size=8, embed_dim=256, num_heads=4, depth=4,
    intermediate_layers=(0, 1, 2, 3), camera_num_heads=2, camera_trunk_depth=1, dpt_features=16,
    dpt_out_channels=(16, 16, 16, 16), attn="ttt", ttt=TttConfig(),
    patch_embedding="conv", point_head=False, image_size=64)
network = Vggt3(config).eval()
frames = torch.zeros(int(sys.argv[1]), 3, 64, 64)
network.map(frames[:2], chunk=2)
peak = PeakMemory(torch.device("cpu"))
network.map(frames, chunk=4)
print(peak.peak_bytes(), network.map_bytes(len(frames), 64, 64, chunk=4))
"""


@cache
def peak(count: int) -> tuple[int, int]:
    """Bytes that mapping so many frames takes in a fresh process, and what the network said
    beforehand.
    """
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PEAK, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    measured, announced = done.stdout.split()
    return int(measured), int(announced)


@pytest.mark.parametrize("frames", [8, 100])
def test_memory_is_announced_on_the_safe_side(frames) -> None:
    measured, announced = peak(frames)
    assert measured < announced < 4 * measured


@pytest.mark.parametrize(
    ("attn", "resident"), [("ttt", "all"), ("ttt", "stream"), ("softmax", "all")]
)
def test_peak_memory_grows_by_what_is_kept_of_each_frame_alone(attn, resident) -> None:
    network = make_network(attn)

    def most(frames: int) -> int:
        taken = images(frames)
        with LiveBytes() as live:
            network.map(taken, chunk=2, resident=resident)
        return live.most

    kept = network.kept_bytes(56, 70, resident)
    camera_token = 4 * 2 * network.config.embed_dim
    if resident == "stream":  # it is given up before there are maps
        expected = max(kept.values()) + camera_token
    else:
        expected = sum(kept.values()) + camera_token
    if attn == "softmax":
        expected += 2 * kept["stream"]  # keys and values of one layer
    assert (most(20) - most(10)) / 10 == pytest.approx(expected, rel=0.02)
