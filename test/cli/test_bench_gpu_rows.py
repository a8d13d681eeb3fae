"""Rows of `vggt3 bench gpu`: what is right, what fits, ratios, targets and floors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from vggt3_ros.cli.bench.gpu import kernel_profile, mapping, networks, ratios, targets
from vggt3_ros.cli.bench.gpu.comparing import compare, compare_in, find_truth
from vggt3_ros.cli.bench.gpu.flop import map_flop
from vggt3_ros.cli.bench.gpu.path_checks import check_residence, map_and_query
from vggt3_ros.cli.bench.gpu.sizes import Sizes
from vggt3_ros.cli.bench.gpu.timed_map import Pace, Timed, timed_map, warm_frames
from vggt3_ros.cli.bench.stage_clock import StageClock
from vggt3_ros.model import streaming
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.rows import HostRows
from vggt3_ros.pipeline import memory_check

from .test_bench_gpu import bench

Rows = list[dict[str, Any]]
GIGA = 10**9


@pytest.fixture
def rows() -> Rows:
    return []


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_what_is_computed_wrongly_is_not_ok(wrong: float, rows: Rows) -> None:
    right = torch.linspace(1, 2, 50)

    def outputs(device: torch.device, mode: str) -> dict[str, Tensor]:
        rounded = right.bfloat16().float()
        return {"fine": right, "depth": rounded if mode == "bf16" else right * wrong}

    compare(bench(rows), "made up", outputs, {"fine": right, "depth": right})
    verdicts = {row["name"]: row["ok"] for row in rows}
    assert verdicts == {"made up, fp32": False, "made up, bf16": True}
    assert rows[0]["text"].startswith("NOT OK") and "(depth)" in rows[0]["text"]


def test_a_path_that_is_off_in_one_layer_is_not_ok(rows: Rows) -> None:
    config = Sizes.dry().ttt
    truth = find_truth(partial(map_and_query, config, 1))

    def path(network: Vggt3, factor: float) -> Any:
        network.aggregator.global_block(1).norm1.weight[:32] *= factor
        return partial(network.map, chunk=2)

    for factor in (1.0, 0.5):
        compute = partial(map_and_query, config, 1, path=partial(path, factor=factor))
        compare_in(bench(rows), f"{factor}", compute, truth, ("bf16",))
    assert [row["ok"] for row in rows] == [True, False]


def test_what_host_memory_brings_back_otherwise_is_not_ok(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rounding(HostRows):
        def write(self, part: slice, values: Tensor) -> None:
            super().write(part, values.bfloat16())

    for kind in (HostRows, Rounding):
        monkeypatch.setattr(streaming, "HostRows", kind)
        check_residence(bench(rows), "host memory", Sizes.dry().ttt, Execution())
    assert [row["ok"] for row in rows] == [True, False] and rows[1]["repeated"]
    assert rows[0]["text"] == "ok: the same bits"
    assert rows[1]["text"].startswith("NOT OK: other bits of depth, ")


def test_a_map_is_not_begun_where_it_cannot_end_in_time(rows: Rows) -> None:
    pace, called = Pace(), list[int]()
    pace.timed[2] = Timed(2, 0.5, 0, 0)

    def map_images(images: Tensor, stages: StageClock) -> Any:
        called.append(len(images))
        stages("all", 1.0)
        return None, None

    late = bench(rows, left=50.0)
    timed_map(late, "long", map_images, 1000, pace, 3)
    assert "it would take 326 s" in rows[0]["skipped"] and called == []
    timed_map(late, "short", map_images, 5, pace, 3, kind="made up")
    assert called == [3, 5] and set(pace.timed) == {2, 5}
    assert rows[1]["first_frames"] == 3 and rows[1]["kind"] == "made up"
    assert rows[1]["images_bytes"] == 5 * 3 * 56 * 70 * 4
    assert Pace(power=2).expected(4) is None
    quadratic = Pace(power=2)
    quadratic.timed[2] = Timed(2, 1.0, 0, 0)
    assert quadratic.expected(4) == pytest.approx(1.3 * 4)


def test_frames_that_are_mapped_beforehand_pass_in_chunks_of_the_same_sizes() -> None:
    assert [warm_frames(n, 32) for n in (5, 50, 64, 100, 1000)] == [5, 50, 32, 36, 40]


def pace(**timed: tuple[float, float]) -> Pace:
    """Of seconds and gigabytes by frames, f100=(1.0, 2.0)."""
    found = Pace()
    for name, (seconds, gigabytes) in timed.items():
        frames = int(name[1:])
        found.timed[frames] = Timed(frames, seconds, round(gigabytes * GIGA), 0)
    return found


def full(rows: Rows) -> Any:
    return replace(bench(rows), sizes=Sizes.full())


def test_ratios_are_held_against_their_targets(rows: Rows) -> None:
    ours = pace(f100=(1.0, 8.0), f1000=(9.0, 19.0))
    theirs = pace(f100=(3.0, 16.0), f1000=(45.0, 38.0))
    ratios.beside_reference(full(rows), ours, theirs, (100, 1000))
    ratios.beside_reference(full(rows), ours, theirs, (250, 500))
    figures = {row["name"]: row for row in rows}
    assert figures["ratios at 100"]["faster"] == pytest.approx(3)
    assert figures["target faster"]["met"] and figures["target faster"]["figure"] == 5
    assert not figures["target leaner"]["met"] and "NOT MET: 2 times" in rows[-1]["text"]
    assert len(rows) == 4


def test_without_the_reference_flow_at_the_goal_the_most_that_both_can_counts(rows: Rows) -> None:
    ours = pace(f100=(1.0, 8.0), f1000=(9.0, 19.0), f500=(5.0, 12.0))
    ratios.beside_reference(full(rows), ours, pace(f100=(3.0, 16.0)), (100, 1000))
    theirs = pace(f100=(3.0, 16.0), f500=(25.0, 48.0))
    ratios.beside_reference(full(rows), ours, theirs, (250, 500))
    faster = [row for row in rows if row["name"] == "target faster"]
    assert faster[-1]["met"] and "500 frames, the most that both could so far" in faster[-1]["text"]


def test_what_is_asked_of_a_card(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA L4"])
    monkeypatch.setattr(ratios, "device_name", lambda device: next(names))
    for _ in range(3):
        ratios.of_card(full(rows), pace(f1000=(11.0, 19.0)))
    verdicts = [(row["name"], row["met"]) for row in rows]
    peak = ("target peak", True)
    assert verdicts == [("target seconds", False), peak, ("target seconds", True), peak, peak]
    rows.clear()
    ratios.of_card(full(rows), pace(f500=(1.0, 1.0)))
    assert rows == []


def test_the_exponent_leaves_small_maps_aside(rows: Rows) -> None:
    ours = pace(f50=(9.0, 1.0), f250=(1.0, 1.0), f1000=(4.0, 1.0), f2000=(8.0, 1.0))
    ratios.exponent(full(rows), ours)
    assert rows[0]["figure"] == pytest.approx(1.0) and rows[0]["met"]
    ratios.exponent(full(rows), pace(f250=(1.0, 1.0)))
    assert len(rows) == 1


def test_softmax_is_extrapolated_by_its_law_or_by_its_operations(rows: Rows) -> None:
    seconds: Callable[[int], float] = lambda n: 0.01 * n + 0.001 * n * n  # noqa: E731
    timed = pace(f100=(seconds(100), 1.0), f300=(seconds(300), 1.0)).timed
    one = full(rows)
    found, how = ratios.softmax_seconds(one, timed, 1000)
    assert found == pytest.approx(seconds(1000)) and "b n + c n^2 from 100 and 300" in how
    found, how = ratios.softmax_seconds(one, {100: timed[100]}, 1000)
    flop = [map_flop(one.sizes.softmax, n, (392, 518), 2) for n in (100, 1000)]
    assert found == pytest.approx(seconds(100) * flop[1] / flop[0]) and "operations" in how
    softmax = Pace(power=2)
    softmax.timed |= timed
    ratios.beside_softmax(one, pace(f1000=(10.0, 1.0)), softmax)
    assert rows[-1]["name"] == "target softmax" and rows[-1]["figure"] == pytest.approx(101)


def test_the_reference_flow_is_left_out_where_host_memory_lacks(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "available_bytes", lambda device: 30 * GIGA)
    with torch.device("meta"):
        network = Vggt3(replace(ModelConfig.full("ttt"), dino_depth=0))
    mapping._theirs(full(rows), network, Pace(), 1000)
    assert "take 34.1 GB of host memory, 30.0 GB are available" in rows[0]["skipped"]


def test_a_map_for_which_memory_lacks_is_left_out(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "available_bytes", lambda device: 10**6)
    network = Vggt3(Sizes.dry().ttt, "bf16").eval()
    assert mapping._ours(bench(rows), network, Pace(), 1000) is None
    assert "needs about" in rows[0]["skipped"] and rows[0]["name"] == "ttt maps 1000"


def test_floors_of_our_kernels_come_from_their_shapes() -> None:
    one = replace(bench(), ceilings={"bf16": 1e15, "copy": 4e12})
    tokens = 32 * 1041
    floors = kernel_profile.own_floors(one, ModelConfig.full("ttt"), tokens)
    assert floors["gradient"] == pytest.approx(32 * 78.6e9 / 24 / 1e15, rel=1e-2)
    assert floors["apply"] == pytest.approx(floors["gradient"] / 2)
    assert floors["unit"] == pytest.approx(tokens * 1024 * 4 / 4e12)
    beside = kernel_profile._beside_floor("gradient_kernel", 2, 4 * floors["gradient"], floors)
    assert beside["of_floor"] == pytest.approx(0.5)
    assert kernel_profile._beside_floor("void at::native::apply", 1, 1.0, floors) == {}
    assert kernel_profile.own_floors(bench(), ModelConfig.full("ttt"), tokens) == {}


def test_targets_say_what_is_asked(rows: Rows) -> None:
    targets.RATE.judge(bench(rows), 39.0, "a map")
    targets.EVEN.judge(bench(rows), 5.0, "two maps")
    assert [row["met"] for row in rows] == [False, True]
    assert rows[0]["text"] == "NOT MET: 39 localizations a second, at least 40 asked (a map)"


class Refusing:
    """A network on a device that cannot run kernels."""

    config = Sizes.dry().ttt
    execution = Execution()

    def execute(self, execution: Execution) -> None:
        warnings.warn("there is no compiler", stacklevel=1)
        self.execution = replace(execution, kernels=False)


def test_what_the_device_refuses_is_told(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = replace(bench(rows), device=torch.device("cuda"))
    network: Any = Refusing()
    networks.execute(on_gpu, network, Execution(graphs=True))
    with pytest.raises(RuntimeError, match="there is no compiler"):
        networks.execute(on_gpu, network, Execution(kernels=True))
    auto = Execution(kernels=True, graphs=True)
    monkeypatch.setattr(Execution, "parse", lambda *arguments: auto)
    networks.execute_as_chosen(on_gpu, network)
    (row,) = rows
    assert row["ok"] is False and "graphs instead of kernels,graphs: there is" in row["text"]


def test_a_fast_path_that_was_given_up_is_no_result() -> None:
    def path(network: Vggt3) -> Any:
        def map_images(images: Tensor) -> Any:
            network.execution = Execution()
            return network.map(images)

        network.execution = Execution(graphs=True)
        return map_images

    with pytest.raises(RuntimeError, match="it executed plain instead of graphs"):
        map_and_query(Sizes.dry().ttt, 1, torch.device("cpu"), "bf16", path)
