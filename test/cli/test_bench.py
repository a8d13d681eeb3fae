"""`vggt3 bench`: an honest meter that runs from a bare checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

from vggt3_ros.cli.bench import command
from vggt3_ros.cli.bench.network import Attention, Case, Failed, Measured, frame_bytes, measure
from vggt3_ros.cli.bench.peak_memory import PeakMemory
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.streaming import Resident

from ..patience import PATIENCE_S

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]

BARE_BENCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in {"PIL", "cv2", "matplotlib", "tqdm", "yaml", "scipy", "huggingface_hub"}:
            raise ModuleNotFoundError(f"{name} is blocked by the test", name=name)

sys.meta_path.insert(0, Blocker())
if __name__ == "__main__":
    from vggt3_ros.cli.main import main
    sys.exit(main(["bench", *sys.argv[1:]]))
"""


def case(checkpoint: Path, **changes: Any) -> Case:
    sizes = {"frames": 3, "image_size": (56, 70), "steps": 1, "chunk": 2, "repeats": 2}
    kind = {"task": "mapping", "model": str(checkpoint), "attention": "ttt", "precision": "fp32"}
    return Case(**{**kind, **sizes, "device": "cpu", "seed": 0, **changes})


def test_bench_runs_with_torch_numpy_and_safetensors_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    # a file, because rows are measured in child processes that import it again
    script = tmp_path / "bare.py"
    script.write_text(BARE_BENCH)
    result = subprocess.run(
        [sys.executable, script, "mapping", "--model", checkpoint, "--global", "ttt", "--frames",
        "2,4",
         "--repeats", "1", "--json", tmp_path / "bench.json"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    data = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["global"], row["frames"]) for row in data["rows"]] == [("ttt", 2), ("ttt", 4)]
    for row in data["rows"]:
        assert row["seconds"] > 0 and 0 < row["peak_bytes"] < 200e6
        assert set(row["stages"]) == {"backbone", "frame blocks", "global blocks", "heads"}
        above = row["of_frames"]["peak_above_stream"]
        assert above == row["peak_bytes"] - row["of_frames"]["stream"] > 0
    assert data["growth_exponent"]["ttt"] is not None
    assert data["image_size"] == [56, 70]
    assert "seconds grow as frames^" in result.stdout and "above stream" in result.stdout


@pytest.mark.parametrize("attention", ["own", "ttt", "softmax", "anchored"])
def test_kinds_of_global_layers_are_measured(attention: Attention, checkpoint: Path) -> None:
    row = measure(case(checkpoint, attention=attention, repeats=3))
    assert (row.attention, row.frames, len(row.seconds_all)) == (attention, 3, 3)
    assert row.seconds == sorted(row.seconds_all)[1]
    assert all(seconds > 0 for seconds in row.stages.values())


def test_stage_is_given_the_time_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr("vggt3_ros.cli.bench.stage_clock.time.perf_counter", lambda: next(now))
    clock = StageClock(torch.device("cpu"))
    for stage in ("backbone", "heads", "backbone"):
        clock(stage, 0.5)
    assert clock.seconds() == {"backbone": 1.0 + 4.0, "heads": 2.0}


@pytest.mark.parametrize(("task", "timed"), [("mapping", ("map", 3)), ("localize", ("query", 1))])
def test_only_the_task_itself_is_timed(
    task: str, timed: tuple[str, int], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    timed_calls = []

    def seconds(function: Callable[[], object], device: torch.device) -> float:
        calls.clear()
        function()
        timed_calls.append(tuple(calls))
        return 1.0

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(Vggt3, name)

        def call(self: Vggt3, images: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            calls.append((name, len(images)))
            return method(self, images, *arguments, **options)

        return call

    monkeypatch.setattr("vggt3_ros.cli.bench.network._seconds", seconds)
    monkeypatch.setattr(Vggt3, "map", counted("map"))
    monkeypatch.setattr(Vggt3, "query", counted("query"))
    assert measure(case(checkpoint, task=task)).seconds_all == [1.0, 1.0]
    assert timed_calls == [(timed,), (timed,)]


@pytest.mark.parametrize(
    ("resident", "kept"),
    [
        ("all", {"stream", "levels", "maps"}),
        ("stream", {"maps"}),
        ("none", {"stream", "levels", "maps"}),
    ],
)
def test_bytes_of_frames_are_told_apart_from_the_rest(
    resident: Resident, kept: set[str], checkpoint: Path
) -> None:
    network = load_network(checkpoint)
    work = case(checkpoint, frames=6, resident=resident)
    bytes_of = frame_bytes(work, network, torch.zeros(6, 3, 56, 70), growth=10**9)
    config = network.config
    tokens = 4 * 5 + network.aggregator.special
    assert bytes_of.images == 4 * 6 * 3 * 56 * 70
    assert bytes_of.stream == 4 * 6 * tokens * config.embed_dim
    assert bytes_of.maps == 4 * 6 * 56 * 70 * (6 if config.point_head else 2)
    assert (bytes_of.levels > 0) == (resident != "stream")
    assert bytes_of.peak_above_stream == 10**9 - bytes_of.stream
    assert bytes_of.peak_above_all == 10**9 - sum(getattr(bytes_of, name) for name in kept)


@pytest.mark.parametrize("resident", ["all", "stream", "none"])
def test_mapping_is_measured_as_residency_was_chosen(
    resident: Resident,
    checkpoint: Path,
    vggt3: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(command, "_measure_in_child", measure)
    chosen = []
    mapped = Vggt3.map

    def mapping(self: Vggt3, *arguments: Any, **options: Any) -> Any:
        chosen.append(options["resident"])
        return mapped(self, *arguments, **options)

    monkeypatch.setattr(Vggt3, "map", mapping)
    options = ["--model", checkpoint, "--global", "ttt", "--frames", "3", "--repeats", 1]
    file = tmp_path / "bench.json"
    assert vggt3("bench", "mapping", *options, "--resident", resident, "--json", file).code == 0
    assert set(chosen) == {resident}
    assert json.loads(file.read_text())["resident"] == resident


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_growth_is_drawn_with_its_exponents(
    suffix: str, checkpoint: Path, vggt3: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure_row(each: Case) -> Measured | Failed:
        exponent = 2.0 if each.attention == "softmax" else 1.0
        return Measured(each.attention, each.frames, each.frames**exponent, [], 10**6, 0, {})

    monkeypatch.setattr(command, "_measure_in_child", measure_row)
    # texts stay texts
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    picture = tmp_path / f"growth.{suffix}"
    options = ["--model", checkpoint, "--frames", "2,4", "--plot", picture]
    assert vggt3("bench", "mapping", *options).code == 0
    drawn = picture.read_bytes()
    assert drawn.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[suffix])
    if suffix == "svg":
        assert all(text in drawn for text in (b"as the model has it", b"softmax", b"1.00", b"2.00"))


def test_peak_is_what_was_allocated_for_a_while() -> None:
    memory = PeakMemory(torch.device("cpu"))
    block = torch.ones(16_000_000)
    del block
    assert 60e6 < memory.peak_bytes() < 90e6


@pytest.mark.parametrize(("exponent", "scale"), [(1.0, 0.1), (2.0, 3.0)])
def test_growth_exponent_is_that_of_a_power_law(exponent: float, scale: float) -> None:
    rows = [Measured("ttt", n, scale * n**exponent, [], 0, 0, {}) for n in (8, 16, 64)]
    assert command.growth_exponent(rows) == pytest.approx(exponent)
    assert command.growth_exponent(rows[:1]) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory."), BrokenProcessPool("killed"), MemoryError()]
)
def test_row_without_enough_memory_is_reported_and_the_others_go_on(
    error: Exception, checkpoint: Path, vggt3: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure_row(each: Case) -> Measured | Failed:
        def work() -> Measured:
            if each.frames == 4:
                raise error
            return measure(each)

        return command._or_error(each, work)

    monkeypatch.setattr(command, "_measure_in_child", measure_row)
    options = [
        "--model",
        checkpoint,
        "--global",
        "ttt",
        "--repeats",
        1,
        "--json",
        tmp_path / "bench.json",
    ]
    outcome = vggt3("bench", "mapping", "--frames", "2,4", *options)
    assert outcome.code == 0 and "memory" in outcome.out
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert rows[0]["seconds"] > 0 and rows[1]["seconds"] is None and "memory" in rows[1]["error"]
    assert vggt3("bench", "mapping", "--frames", "4", *options).code == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["mapping", "--image-size", "50x60"], "multiples of 14"),
        (["mapping", "--image-size", "50"], "--image-size"),
        (["mapping", "--frames", "0"], "--frames"),
        (["mapping", "--global", "linear"], "--global"),
        (["mapping", "--resident", "stream"], "without --global softmax"),
        (["mapping", "--resident", "disk"], "--resident"),
        (["localize", "--resident", "all"], "--resident"),
        (["mapping", "--plot", "growth.txt"], "must end with"),
        (["flying"], "invalid choice"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], complaint: str, vggt3: Run, checkpoint: Path
) -> None:
    assert vggt3("bench", *arguments, "--model", checkpoint).failed_with(complaint, code=2)


def test_accuracy_and_cost_are_told_for_each_number_of_anchors(vggt3: Run, tmp_path: Path) -> None:
    softmax = tmp_path / "softmax.safetensors"
    torch.manual_seed(0)
    config = replace(load_network("tiny").config, attn="softmax", global_attention=None, ttt=None)
    save_weights(Vggt3(config), softmax)
    file = tmp_path / "rows.json"
    options = ["--rooms", "1", "--frames", "3", "--anchors", "2", "3", "4", "--json", file]
    kinds = ["softmax", "anchored", "frame"]
    outcome = vggt3("bench", "anchors", "--model", softmax, "--layers", *kinds, *options)
    assert outcome.code == 0, outcome.err
    rows = json.loads(file.read_text())["rows"]
    found = [(row["layers"], row["anchors"]) for row in rows]
    assert found == [("softmax", 2), ("softmax", 3), ("anchored", 2), ("anchored", 3), ("frame", 0)]
    assert rows[1]["ate_percent"] == pytest.approx(rows[3]["ate_percent"], rel=1e-3)
    assert rows[4]["scene_bytes"] < rows[2]["scene_bytes"] < rows[3]["scene_bytes"]
    assert len(outcome.out.splitlines()) == 6
    refused = vggt3("bench", "anchors", "--model", softmax, "--layers", "ttt", *options)
    assert refused.code != 0 and "anchored, frame, softmax may take" in refused.err
