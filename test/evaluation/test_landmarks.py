"""Rooms are mapped with landmarks, and the figures tell what these are worth."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggt3_ros.evaluation.challenges
import vggt3_ros.worlds.sequence
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.blocks import to_json
from vggt3_ros.evaluation.challenges import DEGRADATIONS, KINDS, challenges
from vggt3_ros.evaluation.evaluate import EvaluationSettings, evaluate
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.report import table, write_pictures
from vggt3_ros.evaluation.result import Evaluation, aggregate
from vggt3_ros.pipeline.localize import LocalizerSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings

from .oracle import arc_sequence
from .test_report import colors_in

POSES_ALONE = ReconstructionSettings(dense=None)


@pytest.fixture(scope="module")
def room() -> Sequence:
    """Eight map frames along 2 m, four queries."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(
            vggt3_ros.worlds.sequence.room_sequence, map_frames=8, query_frames=4, length=2.0
        )
        patch.setattr(vggt3_ros.worlds.sequence, "room_sequence", short)
        return load_sequence("room:3")


@pytest.fixture(scope="module")
def challenged(room: Sequence, small_network: Any) -> Evaluation:
    """The room mapped with true poses; three challenges of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggt3_ros.evaluation.challenges, "_MAX_QUERIES", 3)
        return evaluate(
            room,
            small_network,
            settings=EvaluationSettings(priors=Priors("given"), adversarial=True),
        )


@pytest.fixture(scope="module")
def unverified(room: Sequence, small_network: Any) -> Evaluation:
    """The room mapped without priors, and its queries not verified."""
    settings = EvaluationSettings(POSES_ALONE, localizer=LocalizerSettings(refine="none"))
    return evaluate(room, small_network, settings=settings)


def test_verified_poses_are_right_though_the_network_is_random(challenged: Evaluation) -> None:
    verified, network = challenged.figures.verified, challenged.figures.localization
    block = verified.errors
    assert block.queries == 4 and block.answerable >= 2
    assert block.accepted >= 2 and block.wrong_accepted == 0
    assert block.median_position_m < 0.02 < network.median_position_m
    assert block.median_rotation_deg < 1
    assert block.success_10cm_10deg == block.accepted / 4
    assert math.isfinite(block.chi_square_median) and block.ms_per_frame > 0
    assert {"network", "features", "matching", "pnp"} <= set(block.stages_ms)
    assert verified.map.verified and verified.map.landmarks > 100 and verified.map.bytes > 10_000
    assert verified.map.position_rms_m <= verified.map.position_max_m < 0.04
    mapped = challenged.figures.map
    assert mapped.errors.keyframes_with_landmarks == mapped.errors.frames == 8
    assert mapped.depth.depth_abs_rel_anchored > 0
    assert block.cpu_ms_per_frame > 0 and mapped.cpu_seconds == mapped.cpu_stages["total"] > 0
    assert mapped.cpu_stages.keys() == mapped.stages.keys()
    assert verified.chi_square_reason is None
    assert challenged.figures.alignment.source == "pose_priors"
    json.dumps(challenged.to_json(), allow_nan=False)


def test_every_kind_of_challenge_is_posed_and_what_cannot_be_right_is_refused(
    challenged: Evaluation,
) -> None:
    block = challenged.figures.verified.challenges
    assert block is not None
    counts = block.challenges
    assert tuple(counts) == KINDS
    answerable = min(3, challenged.figures.verified.errors.answerable)
    assert (
        {kind: each.queries for kind, each in counts.items()}
        == {
            **dict.fromkeys(KINDS[:2], 2),  # two rooms, one view each
            **dict.fromkeys(KINDS[3:], answerable),
            "unmapped part": 3,
        }
    )
    assert (
        counts["other place"].accepted
        == counts["black"].accepted
        == counts["mirrored"].accepted
        == 0
    )
    assert block.in_all.queries == 4 + sum(each.queries for each in counts.values())
    assert len(block.failures) == block.in_all.wrong_accepted
    accepted = block.trade_off.answerable_accepted
    assert list(accepted) == sorted(accepted, reverse=True)


def test_table_and_picture_show_verified_poses(challenged: Evaluation, tmp_path: Path) -> None:
    text = table([challenged.figures, aggregate([challenged, challenged])])
    errors = challenged.figures.verified.errors
    assert f"accepted: {errors.accepted} of 4 queries" in text
    assert f"accepted: {2 * errors.accepted} of 8 queries" in text
    assert text.count("look-alike place") == 2 and "nan" not in text
    colors = colors_in(write_pictures(challenged, tmp_path)[0])
    assert (0x2A, 0x9D, 0x2A) in colors  # a verified pose
    assert (0x00, 0x79, 0x8C) in colors  # the network's


def test_several_sequences_are_summed_and_pooled(
    challenged: Evaluation, unverified: Evaluation
) -> None:
    total, one = aggregate([challenged, unverified]).verified, challenged.figures.verified
    assert total.errors.queries == 8 and total.errors.accepted == one.errors.accepted
    assert total.errors.median_position_m == one.errors.median_position_m, (
        "of the accepted of both together"
    )
    assert total.errors.success_10cm_10deg == pytest.approx(one.errors.accepted / 8)
    assert "1 of 2 sequences: room:3" == total.chi_square_reason, (
        "made without priors, it has no metres"
    )
    assert total.map.verified == 2, (
        "this room can be mapped without priors and without a trained network"
    )
    assert total.challenges is not None and one.challenges is not None
    assert total.challenges.challenges == one.challenges.challenges


def test_frames_of_other_sequences_and_mirrored_ones_are_always_wrong(room: Sequence) -> None:
    posed = list(
        itertools.islice(
            challenges(room, room.split(), (), 0, [arc_sequence(), arc_sequence()]), 15
        )
    )
    assert [each.kind for each in posed] == ["other sequence"] * 14 + ["other place"]
    assert posed[6].frame.name == "arc 000006" and all(
        each.true_world_from_cam is None for each in posed
    )
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert DEGRADATIONS["mirrored"](image, np.random.default_rng(0))[0, 0].tolist() == [9, 10, 11]


def test_noisy_priors_are_drawn_from_the_seed_and_measured_after_a_similarity(
    room: Sequence, small_network: Any
) -> None:
    def mapped(seed: int) -> Evaluation:
        settings = EvaluationSettings(
            POSES_ALONE, priors=Priors.parse("noisy:3cm,1deg"), seed=seed, max_query_frames=1
        )
        return evaluate(room, small_network, settings=settings)

    first, other = (mapped(seed).figures for seed in (0, 1))
    assert first.priors == "noisy:3cm,1deg"
    assert first.alignment.source == "Sim(3) of the true map poses"
    assert first.verified.map.position_rms_m < 0.02, "adjusted to better than what was given"
    assert to_json(first.alignment) != to_json(other.alignment)


def test_without_landmarks_nothing_is_accepted(unverified: Evaluation) -> None:
    figures = unverified.figures
    assert figures.verified.errors.accepted == 0 and figures.verified.errors.queries == 4
    assert figures.verified.challenges is None, "nothing was asked"
