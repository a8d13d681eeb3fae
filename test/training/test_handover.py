"""A run goes on on another machine from the small files that it left, whenever it was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vggt3_ros.errors import CheckpointError, InputError
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.training import handover
from vggt3_ros.training.handover import leave, take
from vggt3_ros.training.trainer import Trainer

from .conftest import CPU, MINIATURE, ignore

pytestmark = pytest.mark.usefixtures("quick")


def run(
    folder: Path, stop_at: int | None, left: Path | None = None, resume_from: Path | None = None
) -> Trainer:
    trainer = Trainer(MINIATURE, folder, CPU, bf16=False, handover=left, resume_from=resume_from)
    trainer.run(ignore, stop=lambda: trainer.step == stop_at)
    return trainer


@pytest.mark.parametrize(("stop_at", "phase"), [(2, "softmax"), (4, "distil"), (6, "ttt")])
def test_a_run_goes_on_where_another_was_cut(tmp_path, stop_at, phase) -> None:
    first = run(tmp_path / "here", stop_at, left=tmp_path / "left")
    second = Trainer(MINIATURE, tmp_path / "there", CPU, bf16=False, resume_from=tmp_path / "left")
    assert (second.phase, second.step, second.table.began) == (phase, stop_at, first.table.began)
    for mine, theirs in ((second.averaged(), first.averaged()), (second.parent, first.parent)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            expected = theirs.state_dict()
            for name, tensor in mine.state_dict().items():
                torch.testing.assert_close(tensor, expected[name], atol=1e-3, rtol=1e-3)  # 16 bits
    for name, tensor in second.aid.state_dict().items():
        torch.testing.assert_close(tensor, first.aid.state_dict()[name])
    second.run(ignore)
    assert (
        second.phase == "ttt"
        and second.step == 7
        and load_network(tmp_path / "there" / "network.safetensors")
    )


def test_what_is_left_can_be_used_as_a_network_and_is_replaced_by_the_next(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(handover, "_PART_BYTES", 100_000)
    run(tmp_path / "run", 4, left=tmp_path / "left")
    assert len(list((tmp_path / "left").glob("step-0000004-*.safetensors"))) > 1
    assert len(list((tmp_path / "left" / "parent").iterdir())) == 1
    run(tmp_path / "run", 6, left=tmp_path / "left")
    files = sorted(path.name for path in (tmp_path / "left").glob("*.safetensors"))
    assert files == sorted(json.loads((tmp_path / "left" / "handover.json").read_text())["files"])
    assert all(path.stat().st_size < 200_000 for path in (tmp_path / "left").iterdir())
    assert list((tmp_path / "left" / "parent").iterdir()) == []
    left = load_network(tmp_path / "left")
    assert left.config == MINIATURE.converted_model
    own = load_network(tmp_path / "run" / "network.safetensors").state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in left.state_dict().items())


@pytest.mark.parametrize("cut", ["save_file", "replace"])
def test_a_run_that_is_cut_while_it_writes_leaves_what_it_left_before(
    tmp_path, monkeypatch, cut
) -> None:
    network = Trainer(MINIATURE, tmp_path / "run", CPU, bf16=False).network
    leave(tmp_path / "left", network, {"bias": torch.ones(3)}, {"step": 1})
    before = take(tmp_path / "left")

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    if cut == "save_file":
        monkeypatch.setattr("safetensors.torch.save_file", killed)
    else:
        monkeypatch.setattr(Path, "replace", killed)
    network.aggregator.camera_token.data += 1
    with pytest.raises(KeyboardInterrupt):
        leave(tmp_path / "left", network, {"bias": torch.ones(3)}, {"step": 2})
    after = take(tmp_path / "left")
    assert after.info == {"step": 1}
    assert all(torch.equal(tensor, before.network[name]) for name, tensor in after.network.items())


def test_what_cannot_be_resumed_from_is_refused_with_the_reason(tmp_path) -> None:
    with pytest.raises(
        CheckpointError, match=r"nothing holds nothing to resume from .*handover\.json"
    ):
        Trainer(MINIATURE, tmp_path / "a", CPU, resume_from=tmp_path / "nothing")
    run(tmp_path / "run", 1, left=tmp_path / "left")
    other = replace(MINIATURE, model=replace(MINIATURE.model, camera_trunk_depth=1))
    with pytest.raises(InputError, match=r"left holds a run of another network"):
        Trainer(other, tmp_path / "b", CPU, resume_from=tmp_path / "left")
    with pytest.raises(InputError, match="leave --from and --resume-from out"):
        Trainer(MINIATURE, tmp_path / "run", CPU, resume_from=tmp_path / "left")
    with pytest.raises(InputError, match="student is .* cannot take up"):
        Trainer(
            replace(MINIATURE, student="tiny"), tmp_path / "c", CPU, resume_from=tmp_path / "left"
        )
    index = tmp_path / "left" / "handover.json"
    next((tmp_path / "left").glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="holds nothing to resume from"):
        take(tmp_path / "left")
    index.write_text("{")
    with pytest.raises(CheckpointError, match="holds nothing to resume from"):
        take(tmp_path / "left")
