"""Training really learns, can be cut and resumed exactly, and converts a softmax network into a
fast-weight one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from vggt3_ros.errors import CheckpointError, InputError, Vggt3Error
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.config import GlobalAttention
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training import trainer as trainer_module
from vggt3_ros.training import validations as validations_module
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.initialise import convert, follow, initialise
from vggt3_ros.training.logs import Logs
from vggt3_ros.training.losses import patch_truth
from vggt3_ros.training.optimizers import schedule
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.run_state import RunState, load_state, save_state
from vggt3_ros.training.scenes import SceneBatch
from vggt3_ros.training.trainer import StepReport, Trainer
from vggt3_ros.training.validate import ValidationRoom, validate

from .conftest import CPU, MINIATURE, RECIPES, ignore, train

pytestmark = pytest.mark.usefixtures("quickly_painted")


@pytest.fixture(scope="module")
def finished(quickly_painted, tmp_path_factory) -> tuple[Trainer, Path]:
    """A run that went on to its end, and its folder, not to be changed by tests."""
    folder = tmp_path_factory.mktemp("finished")
    return train(folder), folder


def test_a_run_that_was_cut_ends_with_the_same_weights(finished, tmp_path) -> None:
    for stop in (2, 4, 6):  # once in every phase
        train(tmp_path / "cut", stop)
    train(tmp_path / "cut")
    whole, cut = (load_file(run / "network.safetensors") for run in (finished[1], tmp_path / "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


class Clock:
    """A clock that goes on by what steps and validations are said to take, in seconds."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step: float, first: float = 0, validation: float = 0
    ) -> None:
        self.now, self.step, self.first, self.validation = 0.0, step, first, validation
        for module in (trainer_module, validations_module):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        batch = ScenePool.batch

        def timed_batch(pool: ScenePool, step: int, done: float) -> SceneBatch:
            self.now += self.step + (0.0 if pool.groups else self.first)
            return batch(pool, step, done)

        def timed_validate(network: Vggt3, rooms: object) -> dict[str, float]:
            self.now += self.validation
            return {"pair_rotation_deg": 1.0, "still_pair_rotation_deg": 2.0}

        monkeypatch.setattr(ScenePool, "batch", timed_batch)
        monkeypatch.setattr(validations_module, "validation_rooms", lambda config, device: [])
        monkeypatch.setattr(validations_module, "validate", timed_validate)


def test_a_run_fits_all_its_phases_into_the_minutes_that_it_has(tmp_path, monkeypatch) -> None:
    Clock(monkeypatch, step=0.5, first=3.0)
    trainer = Trainer(MINIATURE, tmp_path, CPU, bf16=False, within=0.15)
    reports: list[StepReport] = []
    trainer.run(reports.append)
    # The first step of a phase is on no phase's account. 9 s: 3.5, then 60 % of 5.5; 0.5, then half
    # of 1.5; 0.5.
    assert Counter(report.phase for report in reports) == {"softmax": 8, "distil": 3, "ttt": 1}
    assert [report.done for report in reports] == pytest.approx(
        [(3 + step / 2) / 9 for step in range(1, 13)]
    )
    assert reports[-1].total == 12 and trainer.table.seconds == 9
    assert reports[-1].validation is not None and (tmp_path / "network.safetensors").exists()
    again = Trainer(MINIATURE, tmp_path, CPU, bf16=False, within=0.15)
    again.run(reports.append)
    assert again.step == trainer.step  # it is over


def test_what_a_later_session_does_before_its_first_step_is_on_no_phases_account(
    tmp_path, monkeypatch
) -> None:
    clock = Clock(monkeypatch, step=0.5, first=4.0)
    whole = Trainer(MINIATURE, tmp_path, CPU, bf16=False, within=0.5)
    whole.run(ignore, stop=lambda: whole.step == 4)  # 4.5 s, 5.0, 5.5, 6.0: of 30
    done = whole.table.phase_done
    assert done == pytest.approx(1.5 / (0.6 * 25.5))
    clock.now += 100.0  # between sessions
    again = Trainer(MINIATURE, tmp_path, CPU, bf16=False, within=0.5)
    again.run(ignore, stop=lambda: again.step == 5)
    assert again.table.seconds == 10.5
    # 4.5 s later, and nothing else
    assert again.table.phase_done == pytest.approx(1.5 / (0.6 * (30 - 9.0)))


def test_validation_takes_a_tenth_of_the_minutes_and_the_last_one_fits_into_them(
    tmp_path, monkeypatch
) -> None:
    clock = Clock(monkeypatch, step=1.0, validation=1.0)
    config = replace(MINIATURE, validations=20)
    trainer = Trainer(config, tmp_path, CPU, bf16=False, within=0.5)
    trainer.run(ignore)
    entries = trainer.validations.entries
    assert [entry["took_s"] for entry in entries] == [1.0] * 3  # of 30 s
    assert entries[-1]["step"] == trainer.step
    assert 29 <= clock.now <= 30.5


@pytest.mark.parametrize("step", [0.25, 0.5])
def test_as_many_groups_are_rendered_however_fast_the_machine(tmp_path, monkeypatch, step) -> None:
    Clock(monkeypatch, step)
    rendered: list[int] = []
    render_group = ScenePool._render
    monkeypatch.setattr(
        ScenePool,
        "_render",
        lambda pool, index: (rendered.append(index), render_group(pool, index)),
    )
    config = replace(MINIATURE, renewals=4)
    Trainer(config, tmp_path, CPU, bf16=False, within=0.1).run(ignore)
    last = config.pool_groups + config.renewals - 1
    assert rendered in (list(range(last)), list(range(last + 1)))  # the last one is due at the end


def test_rates_rise_and_fall_and_windows_widen_with_the_share_that_is_done() -> None:
    config = replace(MINIATURE, warmup=0.2, wide_after=0.5)
    shares = (0.0, 0.1, 0.2, 0.5, 0.75, 1.0)
    assert [schedule(done, config) for done in shares] == pytest.approx(
        [0.1, 0.55, 1.0, 1.0, 0.5, 0.03]
    )
    pool = ScenePool(config, CPU)
    assert [pool._span(done) for done in shares] == pytest.approx([0.0, 0.2, 0.4, 1.0, 1.0, 1.0])


def test_a_run_whose_time_is_over_ends_with_a_network_all_the_same(tmp_path) -> None:
    train(tmp_path, stop_at=2)
    late = Trainer(MINIATURE, tmp_path, CPU, bf16=False, within=0.1)
    late.table.seconds = 100.0
    late.table.began = (0, 100.0)
    reports: list[StepReport] = []
    late.run(reports.append)
    assert [(report.step, report.phase, report.done) for report in reports] == [(3, "ttt", 1.0)]
    assert reports[-1].validation is not None and load_network(tmp_path / "network.safetensors")


def test_a_run_within_minutes_from_other_weights_counts_its_own_steps(finished, tmp_path) -> None:
    start = str(finished[1] / "network.safetensors")
    trainer = Trainer(MINIATURE, tmp_path / "second", CPU, start=start, bf16=False, within=60.0)
    reports: list[StepReport] = []
    trainer.run(reports.append, stop=lambda: trainer.step == 7)
    assert reports[-1].step == 7 and reports[-1].total == pytest.approx(
        5 + 2 / reports[-1].done, abs=1
    )


def test_a_run_of_an_earlier_version_is_refused_and_told_how_to_go_on(tmp_path) -> None:
    train(tmp_path, stop_at=1)
    state = load_state(tmp_path)
    assert state is not None
    save_state(
        tmp_path, RunState(state.parts, {n: v for n, v in state.info.items() if n != "began"})
    )
    with pytest.raises(InputError, match=r"earlier version.* --from .*network.safetensors"):
        Trainer(MINIATURE, tmp_path, CPU)


def test_a_finished_run_leaves_a_usable_network_and_its_validation(finished) -> None:
    trainer, folder = finished
    network = load_network(folder / "network.safetensors")
    assert network.config == MINIATURE.converted_model
    _, memory = network.map(torch.rand(3, 3, 48, 64))
    assert memory is not None
    figures = trainer.validations.entries[-1]
    assert {
        "pair_rotation_deg",
        "query_position_percent",
        "nearest_position_percent",
    } <= figures.keys()
    assert list(folder.glob("*.csv")) == []  # fewer steps than between two lines


def test_another_run_can_start_from_its_weights_in_the_last_phase(finished, tmp_path) -> None:
    start = str(finished[1] / "network.safetensors")
    second = Trainer(MINIATURE, tmp_path / "second", CPU, start=start, bf16=False)
    assert (second.phase, second.step) == ("ttt", MINIATURE.softmax_steps + MINIATURE.distil_steps)
    other = replace(MINIATURE, ttt=replace(MINIATURE.ttt, mlp_ratio=2))
    with pytest.raises(InputError, match="other sizes"):
        Trainer(other, tmp_path / "third", CPU, start=start)


def test_a_run_that_diverges_keeps_its_last_good_state(tmp_path) -> None:
    train(tmp_path / "run", stop_at=2)
    good = (tmp_path / "run" / "state.safetensors").read_bytes()
    trainer = Trainer(MINIATURE, tmp_path / "run", CPU, bf16=False)
    trainer.network.aggregator.camera_token.data.fill_(float("nan"))
    with pytest.raises(Vggt3Error, match="diverged at step 2"):
        trainer.run(ignore)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == good


def test_a_run_does_not_go_on_with_another_network_or_other_weights(tmp_path) -> None:
    train(tmp_path / "run", stop_at=1)
    other = replace(MINIATURE, model=replace(MINIATURE.model, camera_trunk_depth=1))
    with pytest.raises(InputError, match="another network"):
        Trainer(other, tmp_path / "run", CPU)
    with pytest.raises(InputError, match="holds a run already"):
        Trainer(MINIATURE, tmp_path / "run", CPU, start="tiny")


@pytest.mark.parametrize(("reached", "aborted"), [(12.7, True), (12.6, False)])
def test_a_run_that_is_no_better_than_no_estimate_is_stopped_and_saved(
    tmp_path, monkeypatch, reached, aborted
) -> None:
    figures = {"pair_rotation_deg": reached, "still_pair_rotation_deg": 12.7}
    monkeypatch.setattr(validations_module, "validation_rooms", lambda config, device: [])
    monkeypatch.setattr(validations_module, "validate", lambda network, rooms: figures)
    config = replace(MINIATURE, abort_after=0.28)  # of 7 steps
    if not aborted:
        assert train(tmp_path / "run", 3, config).step == 3
        return
    with pytest.raises(
        Vggt3Error, match=r"after 2 steps .* off by 12.7 degrees, and by 12.7 .*\(abort_after\)"
    ):
        train(tmp_path / "run", config=config)
    assert train(tmp_path / "run", 3, config).step == 3, "who insists can go on"


def test_logs_keep_the_columns_of_their_first_row(tmp_path) -> None:
    logs = Logs(tmp_path, wanted=True)
    logs.losses("ttt", 20, 1.0, {"loss": 3.0, "camera": 2.0})
    Logs(tmp_path, wanted=True).losses("ttt", 40, 2.0, {"loss": 1.0, "depth": 0.5})
    Logs(tmp_path, wanted=False).losses("ttt", 60, 3.0, {"loss": 0.0})
    assert (tmp_path / "ttt.csv").read_text().split() == [
        "step,seconds,loss,camera",
        "20,1.0,3,2",
        "40,2.0,1,",
    ]


def test_tensorboard_gets_the_same_numbers_where_it_is_installed(tmp_path, monkeypatch) -> None:
    scalars = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            scalars.append((name, value, step))

        def flush(self) -> None:
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    logs = Logs(tmp_path, wanted=True)
    logs.losses("softmax", 20, 1.0, {"loss": 3.0})
    logs.validations([{"step": 40, "phase": "softmax", "seconds": 2.0, "depth_abs_rel": 0.2}])
    assert ("softmax/loss", 3.0, 20) in scalars and ("validation/depth_abs_rel", 0.2, 40) in scalars


def test_a_damaged_state_is_refused(tmp_path) -> None:
    train(tmp_path / "run", stop_at=1)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.safetensors is no state of a training run"):
        Trainer(MINIATURE, tmp_path / "run", CPU)


def test_batches_depend_on_seed_and_step_alone() -> None:
    straight = ScenePool(MINIATURE, CPU)
    for step in range(5):
        straight.batch(step, 0.0)
    again, other = (
        ScenePool(MINIATURE, CPU).batch(5, 0.0),
        ScenePool(replace(MINIATURE, seed=1), CPU).batch(5, 0.0),
    )
    assert torch.equal(straight.batch(5, 0.0).images, again.images)
    assert not torch.equal(again.images, other.images)
    assert len(straight.groups) == MINIATURE.pool_groups


def test_true_correspondences_show_the_same_surface() -> None:
    batch = ScenePool(replace(MINIATURE, scenes=4), CPU).batch(0, 0.0)
    truth = patch_truth(batch, MINIATURE.model.patch_size)
    assert truth.visible[:, 1:].float().mean() > 0.3
    assert bool((truth.target[:, 0] == torch.arange(truth.target.shape[-1])).all()), (
        "view 0 corresponds to itself"
    )
    in_first = transform_points(batch.cam_from_world[:, 0], truth.points.flatten(1, 2))
    own = transform_points(se3_inverse(batch.cam_from_world[:, 0]), in_first)
    torch.testing.assert_close(own, truth.points.flatten(1, 2), atol=1e-5, rtol=1e-5)
    scene, view, patch = (t[0] for t in truth.visible[:, 1:].nonzero(as_tuple=True))
    target = truth.target[scene, view + 1, patch]
    there, here = truth.points[scene, 0, target], truth.points[scene, view + 1, patch]
    # within a patch or so of one another; the scene's mean distance is 1
    assert float((there - here).norm()) < 0.5


def test_conversion_keeps_everything_but_global_attention() -> None:
    torch.manual_seed(0)
    parent = Vggt3(MINIATURE.model)
    initialise(parent)
    child = convert(parent, MINIATURE.converted_model)
    images = torch.rand(1, 2, 3, 48, 64)
    with torch.no_grad():
        before, after = parent(images).tapped[0], child(images).tapped[0]
    width = MINIATURE.model.embed_dim
    assert torch.equal(before[..., :width], after[..., :width]), (
        "the first frame block does not depend on the kind"
    )
    assert not torch.allclose(before[..., width:], after[..., width:])


def mixture(*kinds: GlobalAttention) -> TrainConfig:
    """A run of one phase, of a network with these kinds of global layers."""
    model = replace(MINIATURE.model, attn=None, global_attention=kinds, ttt=MINIATURE.ttt)
    return replace(MINIATURE, model=model, ttt=None, distil_steps=0, ttt_steps=0, shares=(1, 0, 0))


def test_a_mixture_trains_from_nothing_in_one_phase(tmp_path) -> None:
    config = mixture("ttt+anchored", "anchored", "frame", "ttt")
    trainer = train(tmp_path / "whole", config=config)
    assert (trainer.phase, trainer.step) == ("whole", config.softmax_steps)
    learnt = dict(trainer.network.named_parameters())
    for name in ("attn.gate", "attn.fast.w0"):  # what a scene starts from is learnt as well
        assert f"aggregator.global_blocks.0.{name}" in learnt
    train(tmp_path / "cut", 2, config)
    train(tmp_path / "cut", config=config)
    whole, cut = (load_file(tmp_path / run / "network.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    network = load_network(tmp_path / "whole" / "network.safetensors")
    assert network.config == config.model


def test_fast_weights_from_nothing_start_small_with_a_plain_convolution() -> None:
    network = Vggt3(mixture("ttt", "ttt+anchored", "anchored", "ttt").model)
    before = network.aggregator.global_attention(0).w0.std()
    initialise(network)
    attn = network.aggregator.global_attention(1).fast
    assert network.aggregator.global_attention(0).w0.std() == pytest.approx(0.5 * before)
    assert attn.lr_fc.weight.eq(0).all() and attn.lr_fc.bias.eq(0).all()
    kernel = attn.short_conv_qkv[2].conv.weight
    assert kernel.sum() == kernel[:, :, 1, 1].sum() == len(kernel)


def test_conversion_to_a_mixture_keeps_the_parents_answers_where_it_can() -> None:
    torch.manual_seed(0)
    parent = Vggt3(MINIATURE.model)
    initialise(parent)
    config = replace(MINIATURE, convert_to=("anchored", "ttt+anchored", "ttt", "frame"))
    child = convert(parent, config.converted_model)
    images = torch.rand(1, 3, 3, 48, 64)
    with torch.no_grad():
        before, after = parent(images).tapped, child(images).tapped
    torch.testing.assert_close(after[0], before[0])  # 3 frames, all of them anchors
    child.aggregator.global_attention(1).gate.data.zero_()
    with torch.no_grad():
        torch.testing.assert_close(child(images).tapped[1], before[1])


def test_a_mixture_is_distilled_from_its_parent(tmp_path) -> None:
    config = replace(MINIATURE, convert_to=("anchored", "ttt+anchored", "ttt", "frame"))
    trainer = train(tmp_path / "run", config=config)
    assert trainer.network.config == config.converted_model
    assert trainer.step == config.softmax_steps + config.distil_steps + config.ttt_steps
    with pytest.raises(InputError, match="run of another network"):
        train(tmp_path / "run", config=MINIATURE)


def test_a_student_follows_its_parent_and_keeps_what_that_has_not() -> None:
    torch.manual_seed(0)
    before, after = Vggt3(MINIATURE.model), Vggt3(MINIATURE.model)
    student = convert(before, MINIATURE.converted_model)
    student.aggregator.global_blocks[0].attn.qkv.weight.data += 1
    was = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    now = follow(student, before, after).state_dict()
    old, new = before.state_dict(), after.state_dict()
    for name, tensor in now.items():
        torch.testing.assert_close(
            tensor, was[name] + new[name] - old[name] if name in old else was[name]
        )


def test_conversion_goes_on_with_an_earlier_student(finished, tmp_path) -> None:
    parent, student = (
        str(finished[1] / name) for name in ("softmax.safetensors", "network.safetensors")
    )
    config = replace(
        MINIATURE,
        student=student,
        softmax_steps=1,
        distil_steps=0,
        ttt_steps=1,
        matrix_lr=0.0,
        other_lr=0.0,
    )
    trainer = Trainer(config, tmp_path / "second", CPU, start=parent, bf16=False)
    trainer.run(ignore)
    expected = load_network(student).state_dict()
    for name, tensor in trainer.network.state_dict().items():
        # both files are of 16 bits
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-3)
    with pytest.raises(
        InputError, match="student is .*softmax.safetensors', expected a ttt network"
    ):
        Trainer(replace(config, student=parent), tmp_path / "third", CPU, start=parent)
    with pytest.raises(InputError, match=r"that the run starts with \(none\)"):
        Trainer(config, tmp_path / "fourth", CPU)
    train(tmp_path / "fifth", stop_at=1)
    with pytest.raises(InputError, match="began without it"):
        Trainer(config, tmp_path / "fifth", CPU)


def test_distillation_teaches_global_attention_alone_to_answer_as_before(tmp_path) -> None:
    config = replace(MINIATURE, distil_steps=40, ttt_steps=0, warmup=0.1, renewals=0)
    trainer = train(tmp_path / "run", config=config)
    log = (tmp_path / "run" / "distil.csv").read_text().splitlines()
    first, last = (
        dict(zip(log[0].split(","), row.split(","), strict=True)) for row in (log[1], log[-1])
    )
    for layer in range(config.model.depth):
        assert float(last[f"layer_{layer}"]) < 0.8 * float(first[f"layer_{layer}"])
    parent = load_network(tmp_path / "run" / "softmax.safetensors").state_dict()
    kept = {
        name: t
        for name, t in trainer.network.state_dict().items()
        if ".attn." not in name or "frame" in name
    }
    assert all(torch.equal(tensor, parent[name]) for name, tensor in kept.items())


def test_an_untrained_network_starts_at_a_plain_camera() -> None:
    torch.manual_seed(0)
    network = Vggt3(MINIATURE.model)
    initialise(network)
    torch.nn.init.zeros_(network.camera_head.pose_branch.fc2.weight)
    with torch.no_grad():
        encoding = network(torch.rand(1, 2, 3, 48, 64)).pose_encodings[-1, 0, 0]
    torch.testing.assert_close(encoding, torch.tensor([0, 0, 0, 0, 0, 0, 1.0, 1.0, 1.3]))


def test_some_training_learns_two_rooms_by_heart(tmp_path) -> None:
    """Poses and depth of the very views that it sees again and again. What it makes of unseen rooms
    takes hours.
    """
    model = replace(MINIATURE.model, embed_dim=64, camera_num_heads=2, camera_trunk_depth=1)
    world = {
        "tours": 0.0,
        "corridors": 0.0,
        "yards": 0.0,
        "shadows": 0.0,
        "wide_after": 0,
        "crop": 1.0,
    }
    pool = {
        "views": 4,
        "fewest_views": 4,
        "query_views": 0,
        "pool_groups": 1,
        "group_rooms": 2,
        "renewals": 1,
    }
    rates = {
        "matrix_lr": 0.006,
        "other_lr": 0.004,
        "warmup": 0.01,
        "ema": 0.9,
        "softmax_steps": 2000,
    }
    trainer = Trainer(
        replace(MINIATURE, model=model, **world, **pool, **rates), tmp_path, CPU, bf16=False
    )
    reached: list[dict[str, float]] = []

    def learnt() -> bool:
        if trainer.step % 50 == 0 and trainer.step > 0:
            reached.append(validate(trainer.averaged(), seen_rooms(trainer.pool)))
        return trainer.step >= 500 or (len(reached) > 0 and knows(reached))

    trainer.run(ignore, stop=learnt)
    assert not knows_poses(reached[0])  # it was not so from the start
    assert knows(reached), reached


def seen_rooms(pool: ScenePool) -> list[ValidationRoom]:
    """The rooms of a pool; a view more, which validation wants for a query, is the first one
    again.
    """
    parts = (pool.images.float() / 255, pool.depth.float(), pool.world_from_cam.double())
    rooms = zip(*(torch.cat([part, part[:, :1]], 1) for part in parts), strict=True)
    return [ValidationRoom(pool.config.views, "", *room) for room in rooms]


def knows(reached: list[dict[str, float]]) -> bool:
    """Poses, and depth much better than at first."""
    learnt = reached[-1]["depth_abs_rel"] < 0.6 * reached[0]["depth_abs_rel"]
    return learnt and knows_poses(reached[-1])


def knows_poses(figures: dict[str, float]) -> bool:
    turned = figures["pair_rotation_deg"] < 0.5 * figures["still_pair_rotation_deg"]
    return turned and figures["pair_direction_deg"] < 45  # 90 by chance


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 50}, "height is 50"),
        ({"width": "96"}, "width is '96', expected a whole number"),
        ({"matrix_lr": "1e-3"}, "matrix_lr is '1e-3', expected a number"),
        ({"validations": 0}, "validations is 0, expected at least 1"),
        ({"warmup": 200}, "warmup is 200, expected a share within 0..1"),
        ({"wide_after": 1500.0}, "wide_after is 1500.0, expected a share within 0..1"),
        ({"query_views": 2}, "query_views is 2"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"fewest_views": 4}, "fewest_views is 4"),
        ({"train": "heads"}, "train is 'heads', expected 'all' or 'global_attention'"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"aspects": (2.0, 0.5)}, "aspects is"),
        ({"crop": 0.0}, "crop is 0.0"),
        ({"ttt": None}, "ttt is None, expected given, or else no steps"),
        ({"convert_to": ("ttt", "anchored")}, "global_attention is .*expected 4 of"),
        ({"convert_to": ("anchored",) * 4}, "ttt is TttConfig"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(MINIATURE, **change)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_what_it_makes_fits_its_place(path) -> None:
    config = TrainConfig.read(path)
    assert TrainConfig.from_dict(config.to_dict()) == config
    if config.model.patch_embedding == "conv":  # one of ours, to be embedded
        with torch.device("meta"):
            network = Vggt3(config.converted_model)
        # fp16
        assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) < 40_000_000


def test_unknown_settings_and_unreadable_files_are_refused(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 3\n")
    with pytest.raises(InputError, match="unknown entries \\['learning_rate'\\]"):
        TrainConfig.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        TrainConfig.read(tmp_path / "absent.yaml")
    text = (RECIPES / "train_tiny.yaml").read_text()
    path.write_text(text.replace("camera:", "camra:"), encoding="utf-8-sig")
    with pytest.raises(
        InputError, match="weights: unknown entries \\['camra'\\]; did you mean 'camera'"
    ):
        TrainConfig.read(path)
    path.write_text(text + "\nseed: 7\n")
    with pytest.raises(InputError, match="the key 'seed' occurs twice"):
        TrainConfig.read(path)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"shares": None}, "shares is None, expected a list"),
        ({"corridors": 1.5}, r"corridors is 1.5, expected within 0\.\.1"),
        ({"corridors": 0.6, "yards": 0.6}, "yards is 0.6, expected a share, at most 1 together"),
        ({"ttt": {"num_heads": 3}}, "num_heads is 3, expected a divisor"),
        ({"ttt": {"num_heads": True}}, "num_heads is True, expected null or a whole number"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(changed, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        TrainConfig.from_dict({**MINIATURE.to_dict(), **changed})
