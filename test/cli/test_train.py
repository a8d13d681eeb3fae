"""`vggt3 train`: a schedule that is shown, and a run that is carried from folder to folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vggt3_ros.cli.train import _multiplies_bf16
from vggt3_ros.model.checkpoint import load_network

from ..training.conftest import MINIATURE, quick  # noqa: F401  (a fixture)

Run = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Seven steps; a dry run has one in every phase."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(replace(MINIATURE, save_every_s=0.0).to_dict()))
    return path


def test_a_dry_run_shows_the_schedule_and_keeps_nothing(
    tmp_path: Path, config: Path, vggt3: Run
) -> None:
    run, left, figures = tmp_path / "run", tmp_path / "left", tmp_path / "figures.json"
    options = [
        "--config",
        config,
        "--run",
        run,
        "--leave",
        left,
        "--device",
        "cpu",
        "--json",
        figures,
    ]
    outcome = vggt3("train", *options, "--dry")
    assert outcome.code == 0, outcome
    assert outcome.out.startswith("dry run: a hundredth of the size")
    for phase in ("softmax", "distil", "ttt"):
        assert f"{phase}: 1 steps in" in outcome.out
    assert "to go on elsewhere: 2 files" in outcome.out and "rendering" in outcome.out
    data = json.loads(figures.read_text())
    assert set(data["phases"]) == {"softmax", "distil", "ttt"} and data["rendered_views"] > 0
    assert not run.exists() and not left.exists()


def test_a_run_is_carried_on_from_what_it_left(tmp_path: Path, config: Path, vggt3: Run) -> None:
    left, options = tmp_path / "left", ["--config", config, "--device", "cpu"]
    first = vggt3("train", *options, "--run", tmp_path / "a", "--leave", left, "--minutes", 1e-3)
    assert first.code == 0 and "(softmax), weights in" in first.out and "step 7" not in first.out
    second = vggt3("train", *options, "--run", tmp_path / "b", "--resume-from", left)
    assert second.code == 0 and "step 7 of 7 (ttt)" in second.out
    assert load_network(left).config == MINIATURE.model
    steps = [int(outcome.out.split("step ")[-1].split()[0]) for outcome in (first, second)]
    done = [
        sum(int(line.split()[1]) for line in o.out.splitlines() if " steps in " in line)
        for o in (first, second)
    ]
    assert done == [steps[0], 7 - steps[0]]


@pytest.mark.parametrize(
    ("device", "units", "bf16"),
    [
        ("cpu", {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ("cpu", {"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ("cpu", {"amx_bf16": True}, True),
        ("cpu", {"bf16": True}, True),  # ARM
        ("cuda", {}, True),
    ],
)
def test_bf16_is_chosen_where_there_are_units_for_it(
    device: str, units: dict[str, bool], bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert _multiplies_bf16(torch.device(device)) is bf16


def test_options_that_exclude_each_other_are_refused(
    tmp_path: Path, config: Path, vggt3: Run
) -> None:
    options = ["--config", config, "--run", tmp_path / "run", "--device", "cpu"]
    both = vggt3("train", *options, "--from", "tiny", "--resume-from", tmp_path)
    assert both.failed_with("give one of them", code=2)
    assert vggt3("train", *options, "--dry", "--from", "tiny").failed_with(
        "--dry trains a network of its own", code=2
    )
    nothing = vggt3("train", *options, "--resume-from", tmp_path / "nothing")
    assert nothing.failed_with("nothing holds nothing to resume from", "vggt3 train --leave DIR")
    assert not (tmp_path / "run" / "state.safetensors").exists()
