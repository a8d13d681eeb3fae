"""Maps and their queries are counted right, whatever becomes of them; images are kept for the next
run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation import hard_maps
from vggt3_ros.evaluation.blocks import to_json
from vggt3_ros.evaluation.hard_maps import HardMaps
from vggt3_ros.evaluation.photographs import photographs
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.trials import Outcome, Trial, examine, line, summary, totals
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.sequence import RoomSequence
from vggt3_ros.worlds.turning import rotate_on_the_spot


@pytest.fixture(scope="module")
def trial(drive: RoomSequence, elsewhere: RoomSequence) -> Trial:
    """A good map of six frames told their poses, two queries, and one of another room."""
    split = Split((0, 1, 2, 3, 4, 5), (8, 9))
    sequence = Sequence(
        name="room",
        names=tuple(map(str, range(12))),
        stamps_ns=tuple(range(12)),
        world_from_cam=drive.world_from_cam,
        intrinsics=drive.intrinsics,
        splits={"standard": split},
        read_image=lambda i: drive.images[i],
        read_depth=lambda i: None,
    )
    stranger = Frame(elsewhere.images[0], intrinsics=elsewhere.intrinsics, name="stranger")
    return Trial(
        "good", sequence, split, tuple(drive.world_from_cam[:6]), Priors("given"), (stranger,)
    )


def test_right_and_wrong_poses_are_told_apart(trial: Trial, small_network: Any) -> None:
    moved = trial.sequence.world_from_cam.clone()
    moved[8, 0, 3] += 2.0  # the truth is elsewhere: what is found there is wrong
    outcome = examine(
        replace(trial, sequence=replace(trial.sequence, world_from_cam=moved)), small_network
    )
    assert outcome.verified and outcome.traceback is None and outcome.keyframes == 6
    assert (outcome.asked, outcome.accepted, outcome.right, outcome.wrong) == (3, 2, 1, 1)
    assert len(outcome.failures) == 1 and outcome.failures[0].startswith("8: 2.0")
    assert outcome.chi_square_median is not None and outcome.seconds > 0
    assert line(outcome).endswith("verified, 6 in 1 part") and outcome.by_largest == 2
    refused = Outcome("none", 3, False, "why", 5)
    sums = totals([outcome, refused])
    assert (sums.maps, sums.verified, sums.crashed) == (2, 1, 0)
    assert (sums.asked, sums.asked_of_verified) == (8, 3)
    assert (sums.accepted, sums.right, sums.wrong) == (2, 1, 1)
    assert summary([outcome, refused]).startswith("wrong accepted: 1 of 8 asked")
    json.dumps(to_json(outcome), allow_nan=False)


def test_a_map_that_cannot_be_made_refuses_all_and_says_why(
    trial: Trial, small_network: Any
) -> None:
    grey = replace(trial.sequence, read_image=lambda i: np.full((240, 320, 3), 90, np.uint8))
    refused = examine(replace(trial, sequence=grey), small_network)
    assert not refused.verified and refused.traceback is None and "landmarks" in refused.reason
    black = replace(trial.sequence, read_image=lambda i: np.zeros((240, 320, 3), np.uint8))
    unusable = examine(replace(trial, sequence=black), small_network)
    assert "the image is black" in unusable.reason and unusable.traceback is None
    assert (refused.asked, refused.accepted, unusable.asked, unusable.accepted) == (3, 0, 3, 0)


def test_an_error_that_nobody_foresaw_is_kept_with_its_traceback(
    trial: Trial, small_network: Any
) -> None:
    def broken(index: int) -> np.ndarray:
        raise ZeroDivisionError("provoked")

    crashed = examine(
        replace(trial, sequence=replace(trial.sequence, read_image=broken)), small_network
    )
    assert crashed.reason == "ZeroDivisionError: provoked" and "in broken" in str(crashed.traceback)
    assert "CRASHED" in line(crashed) and totals([crashed]).crashed == 1

    def interrupted(index: int) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(
            replace(trial, sequence=replace(trial.sequence, read_image=interrupted)), small_network
        )


def test_images_are_painted_once_and_again_when_anything_differs(tmp_path: Path) -> None:
    room, lens = make_room(910_200), Lens.of(32, 24, 1.2)
    poses = rotate_on_the_spot(room, 2, torch.Generator().manual_seed(0))
    first = photographs(room, poses, lens, tmp_path / "new", supersample=1)
    (kept,) = (tmp_path / "new").iterdir()
    np.save(kept, first + 1)
    assert np.array_equal(
        photographs(room, poses, lens, tmp_path / "new", supersample=1), first + 1
    )
    for other in (
        lambda: photographs(make_room(910_201), poses, lens, tmp_path / "new", supersample=1),
        lambda: photographs(room, poses.flip(0), lens, tmp_path / "new", supersample=1),
        lambda: photographs(room, poses, Lens.of(32, 24, 1.1), tmp_path / "new", supersample=1),
    ):
        assert not np.array_equal(other(), first + 1)
    assert len(list((tmp_path / "new").iterdir())) == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        photographs(room, poses, lens, tmp_path / "file", supersample=1)


@pytest.fixture(scope="module")
def small_maps() -> HardMaps:
    """The cases of one room, with a tenth of the pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hard_maps, "_LENS", (64, 48, 1.2))
        maps = HardMaps(910_200)
        for album in (
            maps._drive,
            maps._door,
            *(maps._rotation_of(wobble) for wobble in hard_maps._WOBBLES),
        ):
            album.__dict__["images"] = np.zeros((len(album.poses), 48, 64, 3), np.uint8)
        return maps


def test_the_cases_cover_every_kind_and_ask_two_dozen_each(small_maps: HardMaps) -> None:
    trials = {case.name.partition("/")[2]: case.make() for case in small_maps.cases()}
    kinds = {name.partition("/")[0] for name in trials}
    assert kinds == {
        "every-2",
        "every-3",
        "every-4",
        "every-6",
        "turning-0cm",
        "turning-3cm",
        "turning-10cm",
        "door-every-2",
        "door-every-4",
        "door-unseen",
        "half-told-alternate",
        "half-told-first",
        "weak-group",
    }
    assert all(trial.queries == 24 for trial in trials.values())
    assert 3 * sum(trial.queries for trial in trials.values()) > 2000, "of three rooms"
    for name, trial in trials.items():
        told = sum(prior is not None for prior in trial.priors)
        known = 0 if name.endswith("none") else 9 if name.startswith("half") else len(trial.priors)
        assert told == known and len(trial.priors) == len(trial.split.map)
        assert trial.judged.kind == {"group-noisy": "given"}.get(
            name.partition("/")[2], name.partition("/")[2]
        )


def test_noise_is_where_the_name_says(small_maps: HardMaps) -> None:
    cases = {case.name.partition("/")[2]: case for case in small_maps.cases()}

    def noise(name: str) -> list[float]:
        trial = cases[name].make()
        true = trial.sequence.world_from_cam[list(trial.split.map)]
        priors = zip(trial.priors, true, strict=True)
        return [
            float((prior[:3, 3] - pose[:3, 3]).norm())
            for prior, pose in priors
            if prior is not None
        ]

    assert max(noise("every-3/given")) == 0 and min(noise("every-3/noisy")) > 0
    group = noise("weak-group/group-noisy")
    assert max(group[:18]) == 0 and min(group[18:]) > 0 and len(group) == 23
    assert min(noise("weak-group/noisy")) > 0
    assert noise("every-2/noisy") == noise("every-2/noisy"), "the same in every run"


def test_frames_and_queries_are_never_the_same_ones(small_maps: HardMaps) -> None:
    for case in small_maps.cases():
        trial = case.make()
        assert not set(trial.split.map) & set(trial.split.query), case.name
        assert max(trial.split.query) < len(trial.sequence)
