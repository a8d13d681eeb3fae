"""The reference flow of `vggt3 bench gpu` computes what the specification says, and what we do."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.cli.bench.gpu import reference
from vggt3_ros.cli.bench.gpu.reference import map_plainly, tapped_bytes
from vggt3_ros.cli.bench.gpu.reference_layers import frame_block
from vggt3_ros.errors import InputError
from vggt3_ros.model.config import TttConfig
from vggt3_ros.model.network import Vggt3

from ..conftest import make_network, small_config
from ..host_waits import places
from ..model.live_bytes import LiveBytes
from ..model.test_golden import assert_close, compare, load_case
from ..pretended_device import DEVICE, PretendedDevice

CASES = ("dev_vggttt_step1", "dev_vggttt_step2")


@pytest.mark.parametrize("window", [50, reference.WINDOW])
@pytest.mark.parametrize("case", CASES)
def test_it_gives_what_the_specification_expects(case: str, window: int) -> None:
    description, network, tensors = load_case(case)
    run = description["runs"][0]
    prediction, memory = map_plainly(
        network, tensors[run["images"]], run["num_ttt_steps"], window=window
    )
    compare(run["prefix"], prediction, tensors)
    assert_close("camera_tokens", memory.camera_tokens, tensors[f"{run['prefix']}.cam_tokens"])
    for layer, weights in memory.layers.items():
        for name, weight in weights.tensors().items():
            expected = tensors[f"{run['prefix']}.inter.fast.{layer}.{name}"]
            assert_close(f"fast.{layer}.{name}", weight, expected)


@pytest.mark.parametrize("window", [7, 60, 10_000])  # of 25 tokens a frame
@pytest.mark.parametrize("heads", [None, 1])
def test_it_gives_what_our_way_gives(
    heads: int | None, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "_DECODED_ON_CPU", 4)
    network = make_network()
    if heads is not None:
        config = replace(small_config(), ttt=TttConfig(num_heads=heads), point_head=False)
        torch.manual_seed(1)
        network = Vggt3(config).eval().requires_grad_(False)
    images = torch.rand(7, 3, 56, 70)
    expected, memory = network.map(images, 2, chunk=3)
    found, found_memory = map_plainly(network, images, 2, window=window)
    assert memory is not None
    for field in fields(expected):
        value = getattr(expected, field.name)
        if value is None:
            assert getattr(found, field.name) is None
        else:
            torch.testing.assert_close(getattr(found, field.name), value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_memory.tensors(), memory.tensors(), rtol=1e-5, atol=1e-5)


def test_in_bf16_it_differs_from_ours_by_rounding_alone() -> None:
    """Both are in bf16 where autocast has it so: a step that is left in fp32 would be seen."""
    torch.manual_seed(2)
    network = Vggt3(small_config(), "bf16").eval().requires_grad_(False)
    images = torch.rand(4, 3, 56, 70)
    expected, _ = network.map(images, 2, chunk=4)
    found, _ = map_plainly(network, images, 2)
    missed = torch.linalg.vector_norm(found.pose_encoding - expected.pose_encoding)
    assert missed < 1e-3 * torch.linalg.vector_norm(expected.pose_encoding)  # fp32: 1e-2


def test_stages_are_told_and_bytes_of_tapped_maps_are_known() -> None:
    network = make_network()
    told: list[str] = []
    map_plainly(network, torch.rand(2, 3, 56, 70), progress=lambda stage, _: told.append(stage))
    depth = network.config.depth
    assert told.count("frame blocks") == told.count("to the host") == depth
    assert told[0] == "backbone" and told[-1] == "heads"
    assert tapped_bytes(network, 2, (56, 70)) == 4 * 2 * 25 * 64 * 4
    with pytest.raises(InputError, match="give a network with ttt"):
        map_plainly(make_network("softmax"), torch.rand(1, 3, 56, 70))


def test_on_a_device_it_waits_for_its_tapped_maps_alone() -> None:
    images = torch.rand(5, 3, 56, 70)
    with sdpa_kernel(SDPBackend.MATH):
        expected, _ = map_plainly(make_network(), images)
        with PretendedDevice() as device:
            network = make_network().to(DEVICE)
            there = images.to(DEVICE)
            with device.noting() as waits:
                found, _ = map_plainly(network, there)
            for name in ("depth", "pose_encoding"):
                value = getattr(found, name).cpu()
                torch.testing.assert_close(value, getattr(expected, name), rtol=1e-5, atol=1e-5)
    functions = {place.split(":")[-1] for place in places(waits)}
    assert functions == {"_encode", "_decode", "map_plainly"}


def test_a_frame_block_holds_no_more_than_its_widest_step_needs() -> None:
    """The stream after attention, its norm, and the hidden layer before and after GELU."""
    network = make_network()
    x = torch.randn(40, 25, network.config.embed_dim)
    rope = network.aggregator.rope((4, 5), bf16=False)
    with torch.no_grad(), LiveBytes() as live:
        frame_block(network.aggregator.frame_blocks[0], x, rope)
    assert live.most == pytest.approx((1 + 1 + 4 + 4) * x.nbytes, rel=0.01)
