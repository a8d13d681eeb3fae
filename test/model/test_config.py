"""A model's configuration is checked when it is made, and survives the way to a file and back."""

from __future__ import annotations

import ast
import json
from dataclasses import replace

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.model.config import AnchorConfig, ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3

from ..conftest import GOLDEN, small_config


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("dev_vgg*.json")), ids=lambda path: path.stem)
def test_golden_configs_round_trip(case) -> None:
    data = json.loads(case.read_text())["config"]
    assert ModelConfig.from_dict(data).to_dict() == data


def test_own_settings_round_trip() -> None:
    config = replace(
        small_config(), patch_embedding="conv", patch_size=8, image_size=96, point_head=False
    )
    wide = replace(config, ttt=replace(config.ttt, num_heads=1))
    kinds = ("ttt+anchored", "anchored", "frame", "ttt")
    mixed = replace(config, attn=None, global_attention=kinds)
    strides = replace(mixed, anchors=AnchorConfig(4, (1, 0, 2, 1)))
    for given in (config, wide, mixed, strides):
        assert ModelConfig.from_dict(json.loads(json.dumps(given.to_dict()))) == given


@pytest.mark.parametrize(
    ("attn", "keys"), [("ttt", "keys_vggttt.tsv"), ("softmax", "keys_vggt1b.tsv")]
)
def test_full_size_has_the_published_names_and_shapes(attn, keys) -> None:
    rows = [line.split("\t") for line in (GOLDEN / keys).read_text().splitlines()]
    published = {
        row[0]: ast.literal_eval(row[1]) for row in rows if not row[0].startswith("track_head.")
    }
    with torch.device("meta"):
        network = Vggt3(ModelConfig.full(attn))
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == published


def test_full_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Vggt3(ModelConfig.full("ttt"))
    assert sum(p.numel() for p in network.parameters()) == 1_191_990_936


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embed_dim": 33}, "embed_dim is 33"),
        ({"intermediate_layers": (0, 1, 2, 4)}, "below depth 4"),
        ({"intermediate_layers": (0, 1, 2)}, "four whole numbers"),
        ({"attn": "linear"}, "'ttt' or 'softmax'"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"depth": 4.0}, "depth is 4.0, expected a whole number"),
        ({"dpt_out_channels": (0, 16, 16, 16)}, "multiples of 4"),
        ({"dino_num_heads": 7}, "divisor of embed_dim 32"),
        ({"point_head": "no"}, "point_head is 'no'"),
        ({"ttt": None}, "given exactly where attn or global_attention has 'ttt'"),
        ({"attn": None}, "attn is None, expected 'ttt' or 'softmax'"),
        ({"global_attention": ("ttt",) * 4}, "left out where global_attention is given"),
        ({"attn": None, "global_attention": ("ttt",) * 3}, "4 of ttt, softmax"),
        ({"attn": None, "global_attention": ("ttt", "ttt", "ttt", "memory")}, "4 of ttt, softmax"),
        ({"anchors": AnchorConfig(patch_stride=(1, 0))}, "patch_stride is .*one number, or 4"),
        ({"image_size": 71}, "multiple of patch_size 14"),
        ({"patch_embedding": "conv"}, "power of two"),
    ],
)
def test_impossible_sizes_are_refused_by_name(change, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(small_config(), **change)


def test_unknown_and_missing_entries_are_refused() -> None:
    data = small_config().to_dict()
    with pytest.raises(InputError, match="patch_sise"):
        ModelConfig.from_dict({**data, "patch_sise": 14})
    del data["depth"]
    with pytest.raises(InputError, match="depth"):
        ModelConfig.from_dict(data)


@pytest.mark.parametrize(
    ("heads", "words"), [(0, "at least 1"), (1.5, "whole number"), (3, "divisor of embed_dim 32")]
)
def test_fast_weights_need_a_whole_number_of_heads_that_divides_the_width(heads, words) -> None:
    with pytest.raises(InputError, match=f"ttt.num_heads is {heads}, .*{words}"):
        replace(small_config(), ttt=TttConfig(num_heads=heads))


def test_anchors_are_counted() -> None:
    with pytest.raises(InputError, match="anchors.count is 0"):
        AnchorConfig(count=0)
    with pytest.raises(InputError, match="patch_stride is .*-1"):
        AnchorConfig(patch_stride=(1, -1))


def test_kinds_that_are_all_alike_have_a_short_form() -> None:
    config = replace(small_config(), attn=None, global_attention=("ttt",) * 4)
    assert config == small_config()
    assert "global_attention" not in config.to_dict()


def test_even_short_convolutions_are_refused() -> None:
    with pytest.raises(InputError, match="odd"):
        TttConfig(short_conv_size_qkv=(0, 0, 2))
