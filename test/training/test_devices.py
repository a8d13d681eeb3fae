"""Training and validation on another device than the CPU: the same result, and steps for which the
host never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.model.network import Vggt3
from vggt3_ros.training import losses, pool, scenes, trainer, validate, validations
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.initialise import initialise
from vggt3_ros.training.recordings import Recording
from vggt3_ros.training.trainer import StepReport, Trainer

from ..few_textures import few_textures
from ..host_waits import Wait, places
from ..pretended_device import CPU, DEVICE, PretendedDevice, PretendedGenerator
from .conftest import MINIATURE, ignore

SHORT = replace(
    MINIATURE,
    model=replace(MINIATURE.model, camera_trunk_depth=1, camera_iterations=2),
    ttt=replace(MINIATURE.ttt, newton_schulz_steps=2),
    height=32,
    width=48,
    softmax_steps=2,
    distil_steps=2,
    ttt_steps=4,
    pool_groups=1,
    renewals=0,
    wide_after=0.0,  # tours as well
    fit_steps=1,
)
PUBLISHED = replace(
    SHORT,
    model=replace(SHORT.model, point_head=True),
    train="global_attention",
    aspects=(0.8, 1.5),
    crop=0.8,
    softmax_steps=0,
    distil_steps=0,
    ttt_steps=3,
    checkpointing=True,
    folders=("photographs",),
    real=0.5,
    optimizer="adamw",
    weights=replace(SHORT.weights, points=1.0, shape=1.0, outliers=0.02),
)
STEADY: set[str] = set()
"""Where the host waits in a step whose rooms are rendered and of which no log line is due."""
OF_PUBLISHED = STEADY | {
    # outliers are told by a quantile of the pixels that are known
    "training/dense_losses.py:_mean",
}


@pytest.fixture(scope="module", autouse=True)
def small_and_exact() -> Iterator[None]:
    """Few textures and views; random numbers drawn there as on a GPU; one kind of kernels;
    validation by itself.
    """

    def seeded(device: torch.device, seed: int) -> torch.Generator:
        return (PretendedGenerator() if device == DEVICE else torch.Generator()).manual_seed(seed)

    with few_textures(), pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        for module in (pool, validate):
            patch.setattr(module, "seeded", seeded)
        for name, count in (("MAP_VIEWS", 3), ("QUERY_VIEWS", 2), ("TOUR_MAP_VIEWS", 3)):
            patch.setattr(validate, name, count)
        patch.setattr(validations, "validation_rooms", lambda config, device: [])
        yield


@dataclass(frozen=True)
class Run:
    """What a run told, the waits of every step, and what it left."""

    folder: Path
    reports: list[StepReport]
    waits: list[list[Wait]]
    state: dict[str, Tensor]


def run(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    cut: int = 0,
    recordings: tuple[Recording, ...] = (),
) -> Run:
    """Train to the end, stopped once after `cut` steps."""
    reports, waits = list[StepReport](), list[list[Wait]]()
    pretended = PretendedDevice()

    def report(told: StepReport) -> None:
        reports.append(told)
        waits.append(list(pretended.waits))
        pretended.waits.clear()

    with pretended if device == DEVICE else nullcontext():
        for stop_at in (cut, -1) if cut else (-1,):
            session = Trainer(
                config,
                folder,
                device,
                bf16=False,
                recordings=recordings,
                handover=folder / "handover",
            )
            session.run(report, stop=lambda: session.step == stop_at)  # noqa: B023
    return Run(folder, reports, waits, load_file(folder / "state.safetensors"))


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Run:
    return run(SHORT, tmp_path_factory.mktemp("there"), DEVICE, cut=5)


def assert_same(there: Run, here: Run) -> None:
    assert there.state.keys() == here.state.keys()
    assert [
        name for name in there.state if not torch.equal(there.state[name], here.state[name])
    ] == []


def test_every_phase_trains_and_goes_on_on_a_device_as_on_the_cpu(tmp_path, there) -> None:
    assert [report.phase for report in there.reports] == ["softmax"] * 2 + ["distil"] * 2 + [
        "ttt"
    ] * 4
    assert_same(there, run(SHORT, tmp_path, CPU))


def test_the_host_does_not_wait_for_the_device_while_it_trains(there) -> None:
    # of every phase one that is neither its first, nor the first or last of a session
    for step in (2, 4, 7):
        assert places(there.waits[step - 1]) == STEADY, there.reports[step - 1].phase


def test_what_a_run_left_is_taken_up_on_a_device(tmp_path, there) -> None:
    with PretendedDevice():
        session = Trainer(
            SHORT, tmp_path, DEVICE, bf16=False, resume_from=there.folder / "handover"
        )
        assert session.step == 8 and session.averaged().device == DEVICE


def test_the_published_recipe_with_recordings_trains_on_a_device_as_on_the_cpu(
    tmp_path, recording
) -> None:
    here, there = (
        run(PUBLISHED, tmp_path / str(d), d, recordings=(recording,)) for d in (CPU, DEVICE)
    )
    assert_same(there, here)
    backward = [wait for wait in there.waits[1] if wait.file == "training/trainer.py"]
    assert places(there.waits[1]) - places(backward) == OF_PUBLISHED
    # of the pixels that are known, which gradients go back to
    assert {wait.kind for wait in backward} == {"size"}


@pytest.mark.parametrize("attn", ["softmax", "ttt"])
def test_validation_finds_on_a_device_what_it_finds_on_the_cpu(attn) -> None:
    torch.manual_seed(0)
    network = Vggt3(SHORT.model if attn == "softmax" else SHORT.converted_model).eval()
    initialise(network)
    expected = validate.validate(network, validate.validation_rooms(SHORT, CPU))
    with PretendedDevice() as device:
        rooms = validate.validation_rooms(SHORT, DEVICE)
        assert all(room.images.device == room.depth.device == DEVICE for room in rooms)
        network.to(DEVICE)
        with device.noting() as waits:
            assert validate.validate(network, rooms) == expected
        # read out
        assert places(waits) == {
            "training/validate.py:_measure",
            "training/validate.py:_most_similar",
        }


def _truth_elsewhere(session: Trainer, patch: pytest.MonkeyPatch, *names: str) -> None:
    made = losses.patch_truth

    def truth(*args: Any) -> losses.PatchTruth:
        found = made(*args)
        return replace(found, **{name: getattr(found, name).cpu() for name in names})

    patch.setattr(losses, "patch_truth", truth)


def _moment_elsewhere(session: Trainer, patch: pytest.MonkeyPatch) -> None:
    for optimizer in session.optimizers.all:
        for parameter in optimizer.param_groups[0]["params"]:
            optimizer.state[parameter] = {"momentum_buffer": torch.zeros(parameter.shape)}
            return


def _average_elsewhere(session: Trainer, patch: pytest.MonkeyPatch) -> None:
    name = next(iter(session.average.state))
    session.average.state[name] = session.average.state[name].cpu()


def _parent_elsewhere(session: Trainer, patch: pytest.MonkeyPatch) -> None:
    load = trainer.load_network
    patch.setattr(trainer, "load_network", lambda path, device: load(path))


MISPLACED: dict[str, tuple[str, Callable[[Trainer, pytest.MonkeyPatch], object]]] = {
    "what is sent": (
        "softmax",
        lambda session, patch: patch.setattr(scenes, "sent", lambda tensor, device: tensor),
    ),
    "targets": ("softmax", lambda session, patch: _truth_elsewhere(session, patch, "target")),
    "places of patches": (
        "softmax",
        lambda session, patch: _truth_elsewhere(session, patch, "pixels"),
    ),
    "training aid": ("softmax", lambda session, patch: session.aid.to(CPU)),
    "moments": ("softmax", _moment_elsewhere),
    "moving average": ("softmax", _average_elsewhere),
    "parent": ("distil", _parent_elsewhere),
}


@pytest.mark.parametrize(("phase", "misplace"), MISPLACED.values(), ids=MISPLACED)
def test_a_misplaced_tensor_is_found(tmp_path, monkeypatch, phase, misplace) -> None:
    steps = {f"{name}_steps": int(name == phase) for name in ("softmax", "distil", "ttt")}
    with PretendedDevice():
        session = Trainer(replace(SHORT, **steps), tmp_path, DEVICE, bf16=False)
        misplace(session, monkeypatch)
        with pytest.raises(RuntimeError, match=r"same device.*(training|model|geometry)/\w+\.py"):
            session.run(ignore)
