"""What a network remembers of two halves, by how its memory came to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vggt3_ros.cli.bench.memories import check_kinds, errors, memories
from vggt3_ros.errors import InputError
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.validate import tour

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


def test_every_memory_answers_for_both_halves(network: Vggt3) -> None:
    drive = tour(960_000, (72, 96), torch.device("cpu"), 8)
    by_way = memories(network, drive)
    assert list(by_way) == ["first", "anew", "anew, more", "step on all", "step on new", "sums"]
    first = by_way["first"].tensors()
    for way, memory in by_way.items():
        assert memory.tensors().keys() == first.keys()
        if way != "first":
            assert any(not torch.equal(t, first[n]) for n, t in memory.tensors().items())
        halves = errors(network, drive, memory)
        assert sum(len(half.rotation_deg) for half in halves) == 8
        assert all(torch.isfinite(half.position_percent).all() for half in halves)


def test_the_command_prints_a_row_a_memory_and_half(vggt3: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    outcome = vggt3("bench", "memories", "--rooms", "1", "--frames", "4", "--json", file)
    assert outcome.code == 0 and "step on new" in outcome.out, outcome
    assert len(json.loads(file.read_text())["rows"]) == 12


def test_other_layers_and_too_few_frames_are_refused(vggt3: Run, network: Vggt3) -> None:
    softmax = Vggt3(replace(network.config, attn="softmax", global_attention=None, ttt=None))
    with pytest.raises(InputError, match="this one has softmax"):
        check_kinds(softmax)
    outcome = vggt3("bench", "memories", "--frames", "3")
    assert outcome.code == 1 and "at least 4" in outcome.err, outcome
