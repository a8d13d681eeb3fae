"""`vggt3 bench gpu`, rehearsed on a CPU: all steps, results that survive anything, and checks that
can fail.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from vggt3_ros.cli.bench import gpu_command
from vggt3_ros.cli.bench.gpu.bench import Bench, median_and_spread
from vggt3_ros.cli.bench.gpu.flop import _PUBLISHED, count_flop, map_flop
from vggt3_ros.cli.bench.gpu.results import TABLE, Results
from vggt3_ros.cli.bench.gpu.sizes import Sizes
from vggt3_ros.cli.bench.gpu.worker import Worker
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3

from ..patience import PATIENCE_S
from .test_bench import BARE_BENCH

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def start(out: Path, *options: str, script: Path | None = None) -> subprocess.Popen[str]:
    program = ["-m", "vggt3_ros", "bench"] if script is None else [str(script)]
    return subprocess.Popen(
        [sys.executable, *program, "gpu", "--dry", "--device", "cpu", "--out", str(out), *options],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def bench(
    rows: list[dict[str, Any]] | None = None, left: float = 100.0, **ceilings: float
) -> Bench:
    keep = [] if rows is None else rows
    return Bench(CPU, Sizes.dry(), time.monotonic() + left, keep.append, ceilings)


def test_a_dry_run_goes_through_all_steps(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "--minutes", "9")  # slow processors need more than a GPU
    said, _ = process.communicate(timeout=4 * PATIENCE_S)
    assert process.returncode == 0, said
    rows: dict[str, list[dict[str, Any]]] = {}
    for step in gpu_command.STEPS:
        data = json.loads((tmp_path / "out" / f"{step}.json").read_text())
        assert data["state"] == "done" and data["error"] is None, data
        rows[step] = data["rows"]
    rates = {row["name"]: row["rate"] for row in rows["card"] if "rate" in row}
    assert rates.keys() == {"copy", "bf16", "tf32", "fp32"} and all(
        rate > 0 for rate in rates.values()
    )
    verdicts = {row["name"]: row["ok"] for row in rows["correctness"] if "skipped" not in row}
    assert all(verdicts.values())
    assert {
        "golden dev_vggttt_step2, bf16",
        "path kernels and graphs, bf16",
        "path kernels alone, bf16",
        "path resident none, bf16",
        "resident none as all, kernels and graphs",
        "path reference flow, bf16",
        "random ttt, fp32",
        "gradients ttt, fp32",
        "rendering",
    } <= set(verdicts)
    sizes = Sizes.dry()
    timed = {row["name"]: row for row in rows["mapping"]}
    stages = {"backbone", "frame blocks", "global blocks", "heads"}
    for frames in (*sizes.compared, *sizes.further):
        row = timed[f"ttt maps {frames}"]
        assert row["flop"] > 0 and set(row["stages"]) == stages
        assert 0.5 * row["seconds"] < sum(row["stages"].values()) <= row["seconds"]
    for frames in (*sizes.compared, *sizes.further_compared):
        assert set(timed[f"reference maps {frames}"]["stages"]) == stages | {"to the host"}
        assert timed[f"ratios at {frames}"]["faster"] > 0
    targets = {name.removeprefix("target ") for name in timed if name.startswith("target ")}
    asked = {"peak", "faster", "leaner", "softmax", "exponent", "localizing", "even rate"}
    assert targets == asked  # and seconds, on a card that they are asked of
    assert all(isinstance(timed[f"target {name}"]["met"], bool) for name in targets)
    tried = {row["name"]: row for row in rows["paths"]}
    for name in (
        "none",
        "kernels and graphs",
        "all",
        *(f"{field.name} alone" for field in fields(Execution)),
    ):
        row = tried[f"paths {name}"]
        assert "skipped" in row if name in ("all", "compiled alone") else row["first_seconds"] > 0
    places = {"resident all, 4", "resident none, 8", "resident stream, 4"}
    assert places | {"chunks of 2"} <= set(tried)
    trained = {row["name"]: row for row in rows["training"]}
    assert trained["rendering"]["views_per_s"] > 0 and trained["ttt, eager"]["steps_per_s"] > 0
    assert "skipped" in trained["softmax, compiled"]
    *layers, whole = rows["layers"]
    assert len(layers) == 9 and all(row["kernels"] and row["flop"] > 0 for row in layers)
    assert whole["name"] == "whole map" and len(whole["kernels"]) == 15
    table = (tmp_path / "out" / TABLE).read_text()
    assert all(
        row["text"] in table and row["text"] in said for step in rows.values() for row in step
    )


def test_what_needs_yaml_is_left_out_without_it(tmp_path: Path) -> None:
    script = tmp_path / "bare.py"
    script.write_text(BARE_BENCH)
    process = start(tmp_path / "out", "--only", "training", script=script)
    said, _ = process.communicate(timeout=2 * PATIENCE_S)
    assert (
        process.returncode == 0
        and "training: left out: reading the configuration needs PyYAML" in said
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_killed_while_it_measures_it_leaves_results_and_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, "--only", "card,mapping")
    assert process.stdout is not None
    line = ""
    while not line.startswith("  ttt maps 2"):  # within the second step
        line = process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    code = process.wait(timeout=PATIENCE_S)
    assert code == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    card, mapped = (
        json.loads((tmp_path / f"{step}.json").read_text()) for step in ("card", "mapping")
    )
    assert card["state"] == "done" and mapped["rows"][1]["seconds"] > 0
    assert mapped["state"] == ("running" if number == signal.SIGKILL else "interrupted")
    if number != signal.SIGKILL:
        assert "ttt maps 2" in (tmp_path / TABLE).read_text()
    assert psutil.wait_procs(children, timeout=PATIENCE_S)[1] == []


def test_a_step_that_fails_or_takes_too_long_or_is_killed_does_not_end_the_others(
    tmp_path: Path,
) -> None:
    worker, rows = Worker("cpu", dry=True), list[dict[str, Any]]()
    try:
        state, error = worker.do("no_such_step", 10, {}, rows.append)
        assert state == "failed" and error is not None and "no_such_step" in error
        state, error = worker.do("mapping", 0.3, {}, rows.append)
        assert (state, error) == ("out of time", None)

        def kill(row: dict[str, Any]) -> None:
            worker._process.kill()

        state, error = worker.do("card", 60, {}, kill)
        assert state == "failed" and "killed, most likely for lack of memory (exit code -9)" in str(
            error
        )
        rows.clear()
        assert worker.do("card", 60, {}, rows.append) == ("done", None)
        assert [row["name"] for row in rows] == [
            "machine",
            "copy",
            "bf16",
            "tf32",
            "fp32",
            "launch",
        ]
    finally:
        worker.end()


def test_steps_share_the_time_and_are_left_out_when_it_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, given = [0.0], dict[str, float]()

    class Slow:
        """Every step but the first takes twice what it was given."""

        def start(self, seconds: float) -> None:
            pass

        def end(self) -> None:
            pass

        def do(
            self, step: str, seconds: float, ceilings: dict[str, float], on_row: Any
        ) -> tuple[str, None]:
            given[step] = seconds
            now[0] += 1.0 if step == "card" else 2 * seconds
            return "done", None

    monkeypatch.setattr(gpu_command, "Worker", lambda device, dry: Slow())
    monkeypatch.setattr(gpu_command.time, "monotonic", lambda: now[0])
    code = gpu_command.run(_arguments(tmp_path, "--minutes", "10"))
    assert code == 0
    assert given["card"] == pytest.approx(600 * 4 / 100)
    assert given["correctness"] == pytest.approx(599 * 14 / 96)
    assert given["mapping"] == pytest.approx((599 * (1 - 2 * 14 / 96)) * 54 / 82)
    assert "paths" not in given and "paths: left out, the time is up" in capsys.readouterr().out
    left_out = Results(tmp_path).read("paths")
    assert left_out is not None and (left_out.state, left_out.rows) == ("left out", [])


def _arguments(out: Path, *options: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    gpu_command.add_parser(parser.add_subparsers())
    return parser.parse_args(["gpu", "--dry", "--device", "cpu", "--out", str(out), *options])


def test_rows_that_do_not_fit_or_lack_memory_say_so() -> None:
    rows: list[dict[str, Any]] = []
    one = bench(rows, left=5.0)
    assert one.fits("short", 1.0) and not one.fits("long", 50.0)

    def work() -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    one.attempt("large", work)
    assert [row["name"] for row in rows] == ["long", "large"]
    assert "it would take 50 s" in rows[0]["skipped"] and rows[1]["error"].startswith(
        "CUDA out of memory"
    )
    one.attempt("wrong", partial(_fail, "a kernel failed"))
    assert (
        rows[-1]["ok"] is False
        and "a kernel failed" in rows[-1]["text"]
        and "Traceback" in rows[-1]["error"]
    )


def test_a_broken_device_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Bench, "synchronize", lambda bench: _fail("an illegal memory access was encountered")
    )
    with pytest.raises(RuntimeError, match="illegal memory access"):
        bench().attempt("broken", partial(_fail, "a kernel failed"))


def _fail(message: str) -> None:
    raise RuntimeError(message)


@pytest.mark.parametrize("kind", _PUBLISHED)
def test_the_published_networks_operations_are_those_that_counting_finds(kind: Any) -> None:
    config = replace(ModelConfig.full(kind), point_head=False)
    with torch.device("meta"):
        network, images = Vggt3(config), torch.empty(2, 3, 392, 518)
    assert map_flop(config, 2, (392, 518), 2) == count_flop(lambda: network.map(images, 2, 2))


def test_median_and_spread_leave_outliers_aside() -> None:
    assert median_and_spread([1.0, 1.0, 1.0, 1.1, 1.2, 1.2, 9.0]) == pytest.approx((1.1, 0.2))
    assert median_and_spread([2.0, 1.0, 1.5]) == (1.5, 1.0)


def test_without_a_gpu_and_with_wrong_options_it_says_what_to_do(
    tmp_path: Path, vggt3: Run
) -> None:
    if not torch.cuda.is_available():
        outcome = vggt3("bench", "gpu", "--out", tmp_path)
        assert outcome.failed_with("measures a CUDA GPU, and this would be cpu", "--dry")
    outcome = vggt3("bench", "gpu", "--out", tmp_path, "--only", "card,flying")
    assert (
        outcome.code == 2
        and "is not a list of card, correctness, mapping, paths, training, layers" in outcome.err
    )
    assert vggt3("bench", "gpu", "--out", tmp_path, "--minutes", 0).code == 2
