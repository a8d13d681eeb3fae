"""Networks whose global layers are of several kinds: each maps and is queried, in every way that
networks are.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.model.anchors import chosen_tokens
from vggt3_ros.model.config import AnchorConfig, ModelConfig
from vggt3_ros.model.global_attention import GatedAttention
from vggt3_ros.model.kernels import TorchOperations
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory

from ..conftest import small_config

MIXTURES = {
    "softmax": "softmax",
    "anchored": "anchored",
    "frame": "frame",
    "gated": "ttt+anchored",
    "anchors first": "anchored,anchored,ttt,ttt",
    "fast weights first": "ttt,ttt,softmax,anchored",
    "all kinds": "frame,ttt+anchored,softmax,ttt",
}


def mixed(name: str, count: int = 3, stride: int | tuple[int, ...] = 1) -> ModelConfig:
    return replace(small_config(MIXTURES[name]), anchors=AnchorConfig(count, stride))


def network_of(config: ModelConfig) -> Vggt3:
    torch.manual_seed(3)
    network = Vggt3(config).eval().requires_grad_(False)
    for parameter in network.parameters():  # so that every part counts
        parameter.data += 0.05 * torch.randn_like(parameter)
    for layer in range(config.depth):
        network.aggregator.global_block(layer).ls1.gamma.data.fill_(0.5)
        attn = network.aggregator.global_attention(layer)
        if isinstance(attn, GatedAttention):
            attn.gate.data.fill_(1.0)
    return network


@pytest.fixture(params=MIXTURES)
def network(request: pytest.FixtureRequest) -> Vggt3:
    return network_of(mixed(request.param))


def images(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 56, 70, generator=torch.Generator().manual_seed(seed))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-4)


def same_maps(network: Vggt3, first, second) -> None:
    for a, b in zip(first[1].tensors().values(), second[1].tensors().values(), strict=True):
        assert a.shape == b.shape
        step = 2e-3 if a.dtype == torch.float16 else 2e-4
        torch.testing.assert_close(a, b, rtol=step, atol=step)
    close(first[0].pose_encoding, second[0].pose_encoding)
    close(first[0].depth, second[0].depth)


def test_a_mixture_maps_and_is_queried_the_same_in_chunks(network) -> None:
    whole = network.map(images(6), chunk=100)
    same_maps(network, whole, network.map(images(6), chunk=2))
    asked = images(3, seed=2)
    together = network.query(asked, whole[1], chunk=100)
    close(network.query(asked, whole[1], chunk=1).depth, together.depth)
    assert together.pose_encoding.isfinite().all()


@pytest.mark.parametrize("resident", ["stream", "none"])
def test_a_mixture_streams(network, resident) -> None:
    given = images(6)
    if resident == "stream" and "softmax" in network.config.global_kinds:
        with pytest.raises(InputError, match="has softmax layers"):
            network.map(given, resident=resident)
        return
    same_maps(network, network.map(given), network.map(given, chunk=2, resident=resident))


def test_training_is_told_what_mapping_finds(network) -> None:
    given = images(6)
    prediction, _ = network.map(given, steps=1)
    with torch.no_grad():
        output = network(given[None], steps=1)
    close(output.depth[0], prediction.depth)


def test_poses_alone_are_those_of_a_map(network) -> None:
    close(network.map_poses(images(4)), network.map(images(4))[0].pose_encoding)


def test_frames_that_are_not_mapped_change_nothing_for_those_that_are(network) -> None:
    given = images(6)
    with torch.no_grad():
        some = network(given[None, :4], map_frames=4)
        more = network(given[None], map_frames=4)
    close(more.depth[0, :4], some.depth[0])


def test_fused_operations_answer_as_plain_ones(network) -> None:
    plain = network.map(images(4))
    network.use_operations(TorchOperations())
    same_maps(network, plain, network.map(images(4)))


def test_a_memory_survives_as_named_tensors(network) -> None:
    _, memory = network.map(images(5))
    stored = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    again = SceneMemory.from_tensors(stored)
    asked = images(1, seed=2)
    expected = network.query(asked, memory)
    assert torch.equal(network.query(asked, again).pose_encoding, expected.pose_encoding)


def test_a_memory_does_not_grow_with_the_frames(network) -> None:
    sizes = [network.map(images(count))[1].nbytes for count in (4, 8)]
    assert sizes[1] - sizes[0] == 4 * 4 * 2 * network.config.embed_dim  # camera tokens


def test_a_memory_of_another_mixture_is_refused() -> None:
    memories = {name: network_of(mixed(name)).map(images(3))[1] for name in MIXTURES}
    for name in MIXTURES:
        for other, memory in memories.items():
            if {name, other} <= {"softmax", "anchored"}:  # they keep the same of a scene
                continue
            if other != name:
                with pytest.raises(SceneError, match="other sizes"):
                    network_of(mixed(name)).query(images(1), memory)


def test_an_incomplete_memory_of_anchors_is_refused() -> None:
    tensors = network_of(mixed("anchored")).map(images(3))[1].tensors()
    del tensors["global.2.values"]
    with pytest.raises(SceneError, match=r"global\.2\.values"):
        SceneMemory.from_tensors(tensors)


def test_a_map_of_no_more_frames_than_anchors_is_that_of_softmax() -> None:
    softmax, anchored = (network_of(mixed(name)) for name in ("softmax", "anchored"))
    names = anchored.state_dict().keys()
    anchored.load_state_dict({n: t for n, t in softmax.state_dict().items() if n in names})
    few, many = images(3), images(6)
    close(anchored.map(few)[0].depth, softmax.map(few)[0].depth)
    assert not torch.allclose(anchored.map(many)[0].depth, softmax.map(many)[0].depth, rtol=1e-3)
    queried = [network.query(many[5:], network.map(few)[1]) for network in (softmax, anchored)]
    close(queried[0].depth, queried[1].depth)


def test_a_query_of_softmax_layers_is_exact_where_all_frames_are_anchors() -> None:
    network = network_of(mixed("softmax"))
    given = images(3)
    prediction, memory = network.map(given)
    last = network.query(given[1:], memory)
    torch.testing.assert_close(last.depth, prediction.depth[1:], rtol=2e-3, atol=2e-3)  # fp16


def test_other_frames_than_anchors_are_not_seen() -> None:
    network = network_of(mixed("anchored", count=2))
    given = images(6)
    _, memory = network.map(given)
    expected = network.query(images(1, seed=2), memory)
    kept = memory.layers[0].anchors
    chosen = [
        frame
        for frame in range(6)
        if torch.equal(network.map(given[[0, frame]])[1].layers[0].anchors.keys, kept.keys)
    ]
    assert len(chosen) == 1
    _, alone = network.map(given[[0, *chosen]])
    assert torch.equal(alone.layers[3].anchors.values, memory.layers[3].anchors.values)
    assert expected.pose_encoding.isfinite().all()


def test_more_anchors_may_be_asked_for() -> None:
    network = network_of(mixed("anchored", count=2))
    tokens = 5 + 4 * 5
    for count in (2, 4):
        _, memory = network.map(images(6), anchors=count)
        heads = network.config.num_heads
        shape = (heads, count * tokens, network.config.embed_dim // heads)
        assert memory.layers[0].anchors.keys.shape == shape
        assert memory.layers[0].anchors.keys.dtype == torch.float16
    with pytest.raises(InputError, match="anchors is 0"):
        network.map(images(6), anchors=0)


@pytest.mark.parametrize(("stride", "tokens"), [(0, 5), (1, 25), (2, 5 + 2 * 3)])
def test_a_layer_keeps_some_tokens_of_its_anchors(stride: int, tokens: int) -> None:
    network = network_of(mixed("anchored", stride=(1, stride, 1, 1)))
    given = images(6)
    prediction, memory = network.map(given)
    assert memory.layers[0].anchors.keys.shape[1] == 3 * 25
    assert memory.layers[1].anchors.keys.shape[1] == 3 * tokens
    with torch.no_grad():
        close(network(given[None]).depth[0], prediction.depth)


def test_chosen_tokens_are_the_special_ones_and_a_grid() -> None:
    numbers = torch.arange(2 + 3 * 4)
    assert numbers[chosen_tokens((3, 4), 14, 2)].tolist() == [0, 1, 2, 4, 10, 12]
    assert numbers[chosen_tokens((3, 4), 14, 0)].tolist() == [0, 1]


def test_a_gate_lets_fast_weights_in() -> None:
    network = network_of(mixed("gated"))
    with_both = network.map(images(5))[0].depth
    for layer in range(network.config.depth):
        network.aggregator.global_attention(layer).gate.zero_()
    anchored = network_of(mixed("anchored"))
    state = {name.replace(".anchored.", "."): t for name, t in network.state_dict().items()}
    names = anchored.state_dict().keys()
    anchored.load_state_dict({name: t for name, t in state.items() if name in names})
    alone = anchored.map(images(5))[0].depth
    close(network.map(images(5))[0].depth, alone)
    assert not torch.allclose(with_both, alone, rtol=1e-3)


def test_bf16_is_close_to_fp32(network) -> None:
    given, asked = images(5), images(1, seed=2)
    prediction, memory = network.map(given)
    expected = network.query(asked, memory)
    network.precision = "bf16"
    rounded, known = network.map(given)
    for actual, truth in ((rounded, prediction), (network.query(asked, known), expected)):
        error = (actual.depth - truth.depth).norm() / truth.depth.norm()
        assert error < 0.02
