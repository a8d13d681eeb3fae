"""A map keeps within its budget: planned by what things cost, told before, and learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import PredictedCameras, Prediction
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.costs import CostMemory, Costs, measured_costs
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.held_out import HeldOut
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.plan import Plan, Wish, make_plan
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.worlds.sequence import RoomSequence

from ..conftest import make_network
from .conftest import with_plausible_view

MakeFrames = Callable[[int], list[Frame]]
COSTS = Costs(fit=0.02, step=0.01, query=0.01, landmarks=0.1, fast=0.1, fine=0.4)
SIZE = (72, 96)
WISH = Wish(frames=40, novel=32, steps=2, landmarks=True, dense="fine", size_hw=SIZE)
NO_LANDMARKS = AnchorSettings(landmarks=None)


def anything(plan: Plan) -> bool:
    return True


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def seconds(plan: Plan) -> float:
    return sum(plan.seconds(COSTS, WISH).values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20s", Budget(20.0)),
        ("1.5min", Budget(90.0)),
        ("8GB", Budget(None, 8 * 10**9)),
        ("500 MB, 20 s", Budget(20.0, 500 * 10**6)),
    ],
)
def test_a_budget_is_read(text: str, expected: Budget) -> None:
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["", "20", "s", "20s,30s", "20s,8GB,1GB", "-3s", "0s", "1e9s"])
def test_a_budget_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        Budget.parse(text)


@pytest.mark.parametrize("given", [4.0, 6.0, 8.0, 12.0, 20.0, 30.0, 100.0])
def test_a_plan_keeps_within_the_seconds_and_spends_them(given: float) -> None:
    plan = make_plan(COSTS, WISH, given, anything)
    assert seconds(plan) <= 0.9 * given
    poorer = make_plan(COSTS, WISH, 0.8 * given, anything)
    assert seconds(poorer) <= seconds(plan)


def test_what_adds_least_is_left_out_first() -> None:
    plans = {given: make_plan(COSTS, WISH, given, anything) for given in (30.0, 11.5, 7.0, 3.0)}
    everything, fast, off, few = plans.values()
    assert (everything.frames, everything.fitted, everything.dense) == (40, 32, "fine")
    assert everything.trials == 2 and everything.left_out(WISH) == []
    assert fast.frames == 40 and fast.dense == "fast" and fast.trials == 0
    assert fast.fitted == 16 and off.frames == 40 and off.dense == "off"
    assert few.frames < 40 and few.fitted == 8 and few.steps == 1
    told = "; ".join(few.left_out(WISH))
    assert f"{40 - few.frames} frames, those that add least" in told
    assert "depth refined fine" in told and "1 of 2 TTT steps" in told


def test_memory_limits_what_is_fitted_and_then_what_is_used() -> None:
    plan = make_plan(COSTS, WISH, None, lambda plan: plan.fitted <= 20)
    assert (plan.frames, plan.fitted, plan.dense) == (40, 16, "fine")
    plan = make_plan(COSTS, WISH, None, lambda plan: plan.frames <= 20)
    assert plan.frames == 20 and plan.fitted == 20


def test_anchors_are_fewer_where_time_is_short_and_more_where_it_is_not() -> None:
    costs = replace(COSTS, anchor=0.01)
    wish = replace(WISH, anchors=8, most_anchors=16)
    plans = [make_plan(costs, wish, given, anything) for given in (8.4, 10.2, 11.0, 100.0)]
    fewer, usual = plans[0], plans[1]
    assert (fewer.anchors, fewer.steps, fewer.fitted) == (4, 1, 8)
    assert "4 of 8 anchors" in fewer.left_out(wish) and (usual.anchors, usual.dense) == (8, "off")
    assert plans[2].anchors == 8 and plans[2].left_out(wish)
    assert plans[3].anchors == 8 and plans[3].trials == 2  # of 32 frames more tell nothing new
    many = replace(wish, frames=80, novel=64)
    assert make_plan(costs, many, 500.0, anything).anchors == 16
    given = replace(many, most_anchors=8)
    assert make_plan(costs, given, 500.0, anything).anchors == 8
    assert make_plan(costs, many, None, lambda plan: plan.anchors <= 6).anchors == 4


def test_images_are_smaller_before_frames_are_left_out() -> None:
    costs = replace(COSTS, fit=1.0, step=0.5, query=0.5)
    wish = replace(WISH, sizes_hw=(SIZE, (56, 72), (32, 48)))
    for given, size_hw in ((40.0, SIZE), (25.0, (56, 72)), (15.0, (32, 48))):
        plan = make_plan(costs, wish, given, anything)
        assert (plan.frames, plan.size_hw) == (40, size_hw), given
        assert sum(plan.seconds(costs, wish).values()) <= 0.9 * given
    told = plan.left_out(wish)
    assert "images of 96x72 pixels: 48x32" in told and "images of 48x32 pixels" in str(plan)
    assert make_plan(costs, wish, 8.0, anything).frames < 40
    alone = replace(wish, sizes_hw=())
    assert make_plan(costs, alone, 15.0, anything).size_hw == SIZE
    small = make_plan(costs, wish, None, lambda plan: plan.size_hw == (32, 48))
    assert (small.frames, small.fitted, small.dense) == (40, 32, "fine")


def test_images_have_another_size_only_where_the_network_takes_it() -> None:
    assert ModelConfig.full("ttt").image_sizes == (518, 392, 252)
    assert load_network("tiny").config.image_sizes == (96,)


@pytest.mark.parametrize("kinds", ["ttt", "anchored"])
def test_a_map_of_smaller_images_with_fewer_anchors_is_localized_in(
    kinds: str, make_frames: MakeFrames
) -> None:
    network = with_plausible_view(make_network(kinds))
    network_costs = {"fit": 1.0, "step": 0.1, "query": 1.0, "anchor": 0.1}
    CostMemory(network, (56, 70)).keep(replace(COSTS, **network_costs))
    told: list[str] = []
    how = ReconstructionSettings(budget=Budget(12.0), anchor=NO_LANDMARKS)
    frames = make_frames(12)
    scene = reconstruct(frames, network, how, announce=told.append).scene
    assert scene.input_size == (42, 56) and "images of 56x42 pixels" in told[0]
    planned = scene.report["budget"]["planned"]
    assert planned["size_hw"] == [42, 56] and planned["anchors"] == (4 if kinds != "ttt" else 0)
    assert "images of 70x56 pixels: 56x42" in scene.report["budget"]["left_out"]
    for name, keys in scene.memory.items():
        if name.endswith("keys"):
            assert keys.shape[-2] == 4 * (12 + network.aggregator.special), keys.shape
    same = reconstruct(frames, network, replace(how, image_size=56, budget=Budget(60.0)))
    assert same.scene.input_size == (42, 56) and not same.scene.report["budget"]["left_out"]
    with pytest.raises(InputError, match="image_size is 60; .* a long side of 70 or 56 or 28 pix"):
        reconstruct(frames, network, replace(how, image_size=60, budget=None))
    found = Localizer(scene, network).localize(frames[1])
    assert found.depth is not None and found.depth.shape == (42, 56)


def test_a_memory_that_suffices_for_no_plan_is_refused() -> None:
    wish = replace(WISH, needed=True)
    with pytest.raises(InputError, match="mapping 40 of 40 frames, 8 of them fitted, does not fit"):
        make_plan(COSTS, wish, None, lambda plan: False)


def test_a_budget_that_suffices_for_nothing_is_refused_with_figures() -> None:
    with pytest.raises(InputError, match=r"mapping 8 of 40 frames takes about \d.*landmarks 0.8"):
        make_plan(COSTS, WISH, 0.5, anything)


def test_costs_are_learnt_from_what_was_taken() -> None:
    plan = Plan(40, 32, 2, "fast", SIZE)
    expected = plan.seconds(COSTS, WISH)
    learnt = COSTS.learnt(expected, {"network": 2 * expected["network"], "depth": 0.0}, "fast")
    assert learnt.fit == pytest.approx(0.03) and learnt.query == pytest.approx(0.015)
    assert learnt.landmarks == COSTS.landmarks and learnt.fast == COSTS.fast
    many = COSTS
    for _ in range(20):
        expected = plan.seconds(many, WISH)
        many = many.learnt(expected, {"depth": 40 * 0.3}, "fast")
    assert many.fast == pytest.approx(0.3, rel=1e-3) and many.fine == COSTS.fine


def test_costs_are_remembered_for_this_network_and_size(small_network: Vggt3) -> None:
    memory = CostMemory(small_network, (56, 70))
    assert memory.find() is None
    costs = measured_costs(small_network, (56, 70))
    memory.keep(costs)
    assert CostMemory(small_network, (56, 70)).find() == costs
    assert CostMemory(small_network, (28, 70)).find() is None
    memory._entry.write_text('{"fit": 1}')
    assert memory.find() is None


def test_a_map_within_seconds_says_what_it_did(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    CostMemory(small_network, (56, 70)).keep(replace(COSTS, fit=1.0, step=1.0, query=0.2))
    told: list[str] = []
    how = ReconstructionSettings(budget=Budget(30.0), anchor=NO_LANDMARKS)
    made = reconstruct(make_frames(12), small_network, how, announce=told.append)
    budget = made.scene.report["budget"]
    assert made.views.report() == {"fitted": 8, "queried": 4, "repeated": 0}
    assert "12 frames, 8 of them fitted in 2 TTT steps" in told[0] and "of 12 frames" in told[0]
    assert budget["planned"]["fitted"] == 8 and len(budget["left_out"]) == 1
    assert CostMemory(small_network, (56, 70)).find().fit < 1.0  # it took less
    assert len(made.scene.keyframes) == 12


def test_frames_that_the_budget_does_not_suffice_for_are_named(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    CostMemory(small_network, (56, 70)).keep(replace(COSTS, prepare=0.4))
    how = ReconstructionSettings(budget=Budget(5.2), anchor=NO_LANDMARKS)
    made = reconstruct(make_frames(12), small_network, how)
    assert len(made.frames) == len(made.scene.keyframes) == 10
    assert made.frames[0].name == "000.png" and made.scene.ttt_steps == 1
    assert [reason[:8] for _, reason in made.skipped] == ["left out"] * 2
    names = {name for name, _ in made.skipped} | set(made.scene.keyframes.names)
    assert len(names) == 12


def test_an_impossible_budget_ends_before_anything_begins(
    small_network: Vggt3, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vggt3, "map", None)
    CostMemory(small_network, (56, 70)).keep(COSTS)
    for budget, why in ((Budget(0.01), "takes about"), (Budget(None, 10**6), "0.00 GB are avail")):
        how = ReconstructionSettings(budget=budget)
        with pytest.raises(InputError, match=why):
            reconstruct(make_frames(12), small_network, how)


@pytest.mark.parametrize("helpful", [1, 3])
def test_a_further_step_is_kept_only_if_held_out_frames_agree_better(
    helpful: int,
    small_network: Vggt3,
    make_frames: MakeFrames,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """helpful: how many maps in a row are better than the one before; the first always is."""
    figures = iter([0.5 - 0.1 * n if n < helpful else 0.5 for n in range(3)])
    monkeypatch.setattr(HeldOut, "disagreement", lambda self, prediction: next(figures))
    monkeypatch.setattr(HeldOut, "tells", True)
    CostMemory(small_network, (56, 70)).keep(replace(COSTS, fit=0.001, step=0.001, query=0.001))
    how = ReconstructionSettings(budget=Budget(60.0), anchor=NO_LANDMARKS)
    made = reconstruct(make_frames(16), small_network, how)
    assert made.views.report() == {"fitted": 14, "queried": 2, "repeated": 0}
    tried = made.scene.report["budget"]["steps_tried"]
    assert [trial["kept"] for trial in tried] == ([True] * helpful + [False])[:3]
    assert made.scene.ttt_steps == 1 + helpful
    images = prepare(made.frames, 70, 14).images[made.views.fitted]
    expected, _ = small_network.map(images, steps=1 + helpful)
    depth = made.prediction.depth[made.views.fitted]
    torch.testing.assert_close(depth, expected.depth, rtol=1e-4, atol=1e-4)


def test_held_out_frames_tell_a_true_map_from_wrong_ones(drive: RoomSequence) -> None:
    """With the true poses and depth of a drive, and with errors of them."""
    images = torch.from_numpy(drive.images[:8]).permute(0, 3, 1, 2).float() / 255
    held_out = HeldOut(images, torch.tensor([3, 6]), torch.tensor([0, 1, 2, 4, 5, 7]))
    assert held_out.tells
    depth = torch.from_numpy(drive.depth[:8])
    prediction = Prediction(torch.zeros(8, 9), depth, torch.ones_like(depth))
    true = _cameras(se3_inverse(drive.world_from_cam[:8]), drive.intrinsics)

    def disagreement(cameras: PredictedCameras, factor: float = 1.0) -> float:
        said = replace(prediction, depth=factor * depth)
        said.__dict__["cameras"] = cameras
        return held_out.disagreement(said)

    right = disagreement(true)
    moved = _cameras(true.cam_from_world.clone(), drive.intrinsics)
    moved.cam_from_world[[3, 6], 0, 3] += 0.3
    assert right < 0.01
    assert disagreement(moved) > 2 * right
    assert disagreement(true, 1.5) > 2 * right


def _cameras(cam_from_world: Tensor, intrinsics: Tensor) -> PredictedCameras:
    return PredictedCameras(cam_from_world[:, :3], intrinsics.expand(len(cam_from_world), 3, 3))
