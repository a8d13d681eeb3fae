"""Two networks that differ in their global attention alone become one, and others are refused by
the names of what differs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vggt3_ros.errors import CheckpointError, InputError
from vggt3_ros.model.blend import blend
from vggt3_ros.model.checkpoint import load_network, save_weights, stored_state
from vggt3_ros.model.config import AnchorConfig, ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.distil import train_global_attention_alone
from vggt3_ros.training.initialise import convert

from ..conftest import make_network, small_config

GLOBAL = "aggregator.global_blocks."


@pytest.fixture(scope="module")
def softmax() -> Vggt3:
    network = make_network("softmax", seed=1)
    for layer in range(4):
        network.aggregator.global_block(layer).ls1.gamma.fill_(0.5)  # so that attention counts
    return network


@pytest.fixture(scope="module")
def fast(softmax) -> Vggt3:
    """Converted from the other; what the published recipe trains has changed since."""
    network = convert(softmax, small_config("ttt"))
    train_global_attention_alone(network)
    torch.manual_seed(2)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


@pytest.fixture
def pair(fast, softmax, tmp_path) -> tuple[Path, Path]:
    """Their files."""
    files = tmp_path / "fast.safetensors", tmp_path / "softmax.safetensors"
    for network, file in zip((fast, softmax), files, strict=True):
        save_weights(network, file)
    return files


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "hybrid.safetensors"


def images(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 56, 70, generator=torch.Generator().manual_seed(seed))


def outputs(network: Vggt3) -> list[Tensor]:
    """Of a map of five images and of a query in it."""
    prediction, memory = network.map(images(5))
    answer = network.query(images(1, seed=2), memory)
    return [prediction.pose_encoding, prediction.depth, answer.pose_encoding, answer.depth]


def same(first: Vggt3, second: Vggt3) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(first), outputs(second), strict=True))


@pytest.mark.parametrize("kind", ["anchored", "softmax", "frame"])
def test_a_blend_has_its_layers_from_both(pair, out, fast, softmax, kind) -> None:
    made = blend(*pair, [3, 1], kind, out)
    network = load_network(out)
    assert network.config == made.config
    assert network.config.global_kinds == ("ttt", kind, "ttt", kind)
    theirs = stored_state(softmax)
    ours = stored_state(fast)
    state = stored_state(network)
    replaced = [name for name in state if name.startswith((f"{GLOBAL}1.attn", f"{GLOBAL}3.attn"))]
    assert all(torch.equal(state[name], theirs[name]) for name in replaced)
    assert all(torch.equal(state[name], ours[name]) for name in state.keys() - set(replaced))
    assert (made.from_softmax, made.from_ttt) == (len(replaced), 2 * 10)
    assert made.from_softmax + made.from_ttt + made.alike == len(state)
    assert made.rounded == 0
    assert all(part.isfinite().all() for part in outputs(network))
    assert not same(network, fast)


def test_all_layers_of_one_network_are_that_network(pair, out, fast, softmax) -> None:
    blend(*pair, range(4), "softmax", out)
    assert load_network(out).fingerprint() == softmax.fingerprint()
    blend(*pair, [], "anchored", out)
    assert load_network(out).fingerprint() == fast.fingerprint()
    blend(*pair, range(4), "anchored", out)  # eight anchors, and no more frames
    for ours, theirs in zip(outputs(load_network(out)), outputs(softmax), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)  # keys are kept in fp16


def test_anchors_are_chosen_as_told(pair, out) -> None:
    blend(*pair, [0, 1], "anchored", out, anchors=2, patch_stride=0)
    network = load_network(out)
    assert network.config.anchors == AnchorConfig(2, 0)
    memory = network.map(images(5))[1]
    assert memory.layers[0].anchors.keys.shape[1] == 2 * 5  # camera and register tokens


def test_a_blend_may_be_blended_again(pair, out, tmp_path) -> None:
    blend(*pair, [3], "anchored", out, anchors=2)
    again = tmp_path / "again.safetensors"
    blend(out, pair[1], [0], "frame", again)
    config = load_network(again).config
    assert config.global_kinds == ("frame", "ttt", "ttt", "anchored")
    assert config.anchors.count == 2


def changed(file: Path, names: list[str], by: float = 0.25) -> None:
    """Add to one value of these tensors of a file."""
    with safe_open(file, "pt") as handle:
        metadata = handle.metadata()
    tensors = load_file(file)
    for name in names:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[-1] += by
    save_file(tensors, file, metadata=metadata)


@pytest.mark.parametrize(
    "name",
    [
        f"{GLOBAL}3.norm1.weight",
        f"{GLOBAL}3.ls1.gamma",
        f"{GLOBAL}0.mlp.fc2.bias",
        "aggregator.frame_blocks.2.attn.qkv.weight",
        "aggregator.register_token",
        "depth_head.scratch.output_conv1.bias",
    ],
)
def test_what_else_differs_is_refused_by_name(pair, out, name) -> None:
    changed(pair[1], [name])
    with pytest.raises(
        CheckpointError, match="differ in more than their global attention"
    ) as caught:
        blend(*pair, [3], "anchored", out)
    said = re.search(
        rf"in 1 of \d+ other tensors: {re.escape(name)} 0.25 / [0-9.]+;", str(caught.value)
    )
    assert said is not None
    assert not out.exists()


def test_many_differences_are_counted_and_the_largest_named(pair, out) -> None:
    names = [f"aggregator.frame_blocks.{i}.norm{k}.bias" for i in range(4) for k in (1, 2)]
    changed(pair[1], names)
    changed(pair[0], ["camera_head.token_norm.bias"], by=3.0)
    with pytest.raises(CheckpointError, match=r"9 of \d+ other tensors: camera_head\.token_") as it:
        blend(*pair, [3], "anchored", out)
    assert str(it.value).count(" 0.25 / ") == 7


def test_a_sign_of_zero_is_a_difference(pair, out) -> None:
    tensors = load_file(pair[1])
    for file, zero in zip(pair, (0.0, -0.0), strict=True):
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata()
        tensors = load_file(file)
        tensors["camera_head.token_norm.bias"] = torch.full((64,), zero)
        save_file(tensors, file, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"camera_head\.token_norm\.bias 0 / 0;"):
        blend(*pair, [3], "anchored", out)


@pytest.mark.parametrize("rounded", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_file_may_be_rounded(pair, out, fast, softmax, rounded, dtype) -> None:
    save_weights((fast, softmax)[rounded], pair[rounded], dtype)
    made = blend(*pair, [3], "anchored", out)
    assert made.rounded == made.alike
    assert made.rounded_to == str(dtype).removeprefix("torch.")
    kept = load_file(out)
    name = "aggregator.frame_blocks.0.mlp.fc1.weight"
    assert torch.equal(kept[name], stored_state(fast)[name])  # the finer of the two
    name = f"{GLOBAL}{(0, 3)[rounded]}.attn.qkv.weight"
    assert kept[name].dtype == dtype
    assert all(part.isfinite().all() for part in outputs(load_network(out)))
    changed(pair[1 - rounded], ["camera_head.token_norm.bias"])
    with pytest.raises(CheckpointError, match=r"camera_head\.token_norm\.bias"):
        blend(*pair, [3], "anchored", out)


def test_networks_of_other_kinds_are_refused_with_what_they_are(pair, out, tmp_path) -> None:
    first, second = pair
    for given, kinds in (
        ((second, second), "of kind softmax, and .* of kind softmax"),
        ((first, first), "of kind ttt, and .* of kind ttt"),
        ((second, first), "of kind softmax, and .* of kind ttt"),
    ):
        with pytest.raises(InputError, match=f"{kinds}; expected ttt, then softmax"):
            blend(*given, [3], "anchored", out)
    blend(*pair, [3], "anchored", out)
    with pytest.raises(InputError, match="of kind ttt, and .* of kind ttt, anchored"):
        blend(first, out, [0], "anchored", tmp_path / "more.safetensors")


def test_networks_of_other_sizes_are_refused(pair, out) -> None:
    other = Vggt3(replace(small_config("softmax"), camera_trunk_depth=1))
    save_weights(other, pair[1])
    with pytest.raises(CheckpointError, match="other sizes: camera_trunk_depth 2 and 1"):
        blend(*pair, [3], "anchored", out)


def test_the_embedded_model_and_its_parent_were_trained_apart(out) -> None:
    parent = Path(__file__).parents[2] / "parents" / "tiny_softmax_tours.safetensors"
    with pytest.raises(CheckpointError, match="tiny and .* differ in more than"):
        blend("tiny", parent, [3], "anchored", out)


def test_layers_and_kinds_that_there_are_not(pair, out) -> None:
    for layers in ([4, 1], [-1]):
        with pytest.raises(InputError, match=r"no layers \[-?\d\]: the networks have 0 to 3"):
            blend(*pair, layers, "anchored", out)
    with pytest.raises(InputError, match="the gate between them is in neither file"):
        blend(*pair, [3], "ttt+anchored", out)
    with pytest.raises(InputError, match="kind is 'ttt', expected one of softmax, anchored, frame"):
        blend(*pair, [3], "ttt", out)
    with pytest.raises(InputError, match="no layer attends to any"):
        blend(*pair, [3], "frame", out, anchors=4)
    assert not out.exists()


def test_damaged_and_foreign_files_are_refused(pair, out, tmp_path) -> None:
    tensors = load_file(pair[1])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match="networks of other sizes"):  # as if published
        blend(pair[0], foreign, [3], "anchored", out)
    half = tmp_path / "half.safetensors"
    half.write_bytes(pair[1].read_bytes()[:50_000])
    with pytest.raises(CheckpointError, match=r"half\.safetensors cannot be read"):
        blend(pair[0], half, [3], "anchored", out)
    with safe_open(pair[1], "pt") as handle:
        metadata = handle.metadata()
    del tensors[f"{GLOBAL}3.attn.q_norm.bias"]
    save_file(tensors, pair[1], metadata=metadata)
    with pytest.raises(CheckpointError, match=r"1 missing: .*\.3\.attn\.q_norm\.bias"):
        blend(*pair, [3], "anchored", out)
    tensors[f"{GLOBAL}3.attn.q_norm.bias"] = torch.zeros(16, dtype=torch.int32)
    save_file(tensors, pair[1], metadata=metadata)
    with pytest.raises(CheckpointError, match=r"1 that are not of floating-point numbers: "):
        blend(*pair, [3], "anchored", out)


def test_what_is_read_is_not_written_over(pair) -> None:
    before = [file.read_bytes() for file in pair]
    for file in pair:
        with pytest.raises(InputError, match="is one of the blended networks"):
            blend(*pair, [3], "anchored", file)
    with pytest.raises(InputError, match=r"written as \.safetensors"):
        blend(*pair, [3], "anchored", pair[0].with_suffix(".pt"))
    assert [file.read_bytes() for file in pair] == before


def test_pickled_tensors_are_blended(pair, out, tmp_path, monkeypatch) -> None:
    blend(*pair, [3], "anchored", out)
    expected = load_network(out).fingerprint()
    monkeypatch.setattr(ModelConfig, "full", staticmethod(small_config))  # .pt files tell no sizes
    pickled = [file.with_suffix(".pt") for file in pair]
    for file, name in zip(pair, pickled, strict=True):
        torch.save(load_file(file), name)
    again = tmp_path / "again.safetensors"
    blend(*pickled, [3], "anchored", again)
    assert load_network(again).fingerprint() == expected


def mapped_ranges(file: Path) -> list[tuple[int, int]]:
    """Where the file is mapped into this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [(int(first, 16), int(last, 16)) for first, last in spans]


def test_neither_network_is_held_in_memory(pair, out, monkeypatch) -> None:
    """What is written are parts of the files, as the system maps them."""
    written: dict[str, Tensor] = {}
    monkeypatch.setattr(
        "vggt3_ros.model.blend.write_tensors", lambda tensors, *_: written.update(tensors)
    )
    blend(*pair, [3], "anchored", out)
    spans = [span for file in pair for span in mapped_ranges(file)]
    addresses = [tensor.data_ptr() for tensor in written.values()]
    assert all(any(a <= address < b for a, b in spans) for address in addresses)
