"""From a sequence and a network to figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import to_json
from vggt3_ros.evaluation.evaluate import EvaluationSettings, evaluate
from vggt3_ros.evaluation.figures import QueryCounts, SkippedFrame
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.report import table, write_pictures
from vggt3_ros.evaluation.result import aggregate

from .oracle import METRES_PER_UNIT, SPLIT, Oracle, arc_sequence
from .test_report import colors_in

LOCALIZATION_KEYS = (
    "median_position_percent",
    "median_rotation_deg",
    "mean_position_m",
    "mean_rotation_deg",
    "median_position_m",
    "success_10cm_10deg",
    "success_20cm_20deg",
)


def test_a_network_that_knows_the_truth_has_no_errors(small_network: Any) -> None:
    sequence = arc_sequence()
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    figures = evaluation.figures
    errors = figures.map.errors
    assert errors.frames == 4
    assert (errors.ate_m, errors.ate_percent) == pytest.approx((0, 0), abs=1e-5)
    assert (errors.pair_rotation_deg, errors.pair_direction_deg) == pytest.approx((0, 0), abs=1e-5)
    assert figures.map.depth.depth_abs_rel == pytest.approx(0, abs=1e-5)
    assert figures.map.depth.depth_scale == pytest.approx(METRES_PER_UNIT)
    assert figures.alignment.true_from_estimated.scale == pytest.approx(METRES_PER_UNIT)
    assert figures.localization.mean_position_m == pytest.approx(0, abs=1e-6)
    assert figures.localization.mean_rotation_deg == pytest.approx(0, abs=1e-5)
    assert figures.localization.success_10cm_10deg == 1
    assert torch.allclose(evaluation.map_poses, sequence.world_from_cam[list(SPLIT.map)], atol=1e-6)


def test_localization_errors_are_in_metres_of_the_true_world(small_network: Any) -> None:
    sequence = arc_sequence()
    figures = evaluate(sequence, Oracle(small_network, sequence, SPLIT, query_shift_m=0.15)).figures
    positions = sequence.world_from_cam[:, :3, 3]
    extent = float((positions.amax(0) - positions.amin(0)).norm())
    assert figures.trajectory_extent_m == pytest.approx(extent)
    assert figures.localization.median_position_m == pytest.approx(0.15)
    assert figures.localization.median_position_percent == pytest.approx(15 / extent)
    assert figures.localization.success_10cm_10deg == 0
    assert figures.localization.success_20cm_20deg == 1
    assert [each.position_m for each in figures.queries.each] == pytest.approx([0.15] * 3)


def test_with_priors_the_scenes_own_scale_is_measured(small_network: Any) -> None:
    sequence = arc_sequence()
    settings = EvaluationSettings(priors=Priors("given"))
    figures = evaluate(
        sequence, Oracle(small_network, sequence, SPLIT, 0.15), settings=settings
    ).figures
    assert figures.alignment.source == "pose_priors"
    assert figures.localization.median_position_m == pytest.approx(0.15)


def test_without_priors_no_frame_tells_the_network_where_it_is(small_network: Any) -> None:
    sequence = arc_sequence()
    figures = evaluate(sequence, Oracle(small_network, sequence, SPLIT)).figures
    assert figures.alignment.source == "Sim(3) of the true map poses"


def test_a_black_query_is_lost_and_counts_as_a_failure(small_network: Any) -> None:
    sequence = arc_sequence(black=(3,))
    evaluation = evaluate(sequence, Oracle(small_network, sequence, Split(SPLIT.map, (1, 5))))
    queries = evaluation.figures.queries
    assert (queries.total, queries.answered, queries.lost) == (3, 2, 1)
    assert queries.reasons == {"the image is black": 1}
    assert evaluation.query_poses[1] is None
    assert evaluation.figures.localization.success_20cm_20deg == pytest.approx(2 / 3)
    lost = evaluation.to_json()["queries"]["each"][1]
    assert lost["status"] == "LOST" and lost["position_m"] is None


def test_a_black_map_frame_is_skipped_and_reported(small_network: Any) -> None:
    sequence = arc_sequence(black=(4,))
    evaluation = evaluate(sequence, Oracle(small_network, sequence, Split((0, 2, 6), SPLIT.query)))
    assert evaluation.map_indices == (0, 2, 6)
    assert evaluation.figures.map.skipped == (SkippedFrame("000004", "the image is black"),)
    assert evaluation.figures.map.errors.ate_m == pytest.approx(0, abs=1e-5)


def test_the_json_has_the_agreed_keys_and_no_infinities(
    small_network: Any, plain_folder: Path
) -> None:
    data = evaluate(load_sequence(str(plain_folder)), small_network).to_json()
    text = json.dumps(data, allow_nan=False)
    blocks = [
        data["localization"],
        data["baselines"]["mean_pose"],
        data["baselines"]["nearest_image"],
    ]
    assert all(tuple(block) == LOCALIZATION_KEYS for block in blocks)
    assert {
        "ate_m",
        "ate_percent",
        "pair_rotation_deg",
        "depth_abs_rel",
        "seconds",
        "peak_rss_bytes",
    } <= set(data["map"])
    assert data["map"]["depth_frames"] == 1
    assert "infinite" in text  # the definitions come along
    assert {"ate", "depth_refined", "cloud", "chi_square", "answerable", "mean_pose"} <= set(
        data["definitions"]
    )


def test_baselines_answer_with_true_map_poses(small_network: Any, plain_folder: Path) -> None:
    # Camera i is at i / 10 m; frame 3 is a query, frames 0, 2, 4 are mapped.
    figures = evaluate(load_sequence(str(plain_folder)), small_network).figures
    assert figures.baselines.mean_pose.median_position_m == pytest.approx(0.1)
    assert figures.trajectory_extent_m == pytest.approx(0.4)
    assert figures.baselines.mean_pose.median_position_percent == pytest.approx(25)


def test_the_extent_is_that_of_map_and_query_frames(small_network: Any, plain_folder: Path) -> None:
    (plain_folder / "split.json").write_text('{"ahead": {"map": [0, 2], "query": [5]}}')
    figures = evaluate(load_sequence(str(plain_folder)), small_network).figures
    assert figures.trajectory_extent_m == pytest.approx(0.5)
    assert figures.baselines.mean_pose.median_position_percent == pytest.approx(80)


def test_a_softmax_network_is_measured(softmax_network: Any) -> None:
    figures = evaluate(arc_sequence(), softmax_network).figures
    assert figures.map.errors.ate_m > 0
    assert figures.localization.median_position_m > 0
    assert figures.queries.lost == 0


def test_limits_take_evenly_spaced_frames(small_network: Any) -> None:
    settings = EvaluationSettings(max_map_frames=3, max_query_frames=1)
    evaluation = evaluate(arc_sequence(), small_network, settings=settings)
    assert evaluation.split == Split((0, 4, 6), (1,))


def test_an_unknown_split_is_refused_before_any_work(small_network: Any) -> None:
    with pytest.raises(InputError, match="arc has no split 'dense'; choose one of sparse"):
        evaluate(arc_sequence(), small_network, "dense")


def test_progress_is_told_and_may_cancel(small_network: Any) -> None:
    seen: list[tuple[str, float]] = []
    evaluate(
        arc_sequence(), small_network, progress=lambda stage, share: seen.append((stage, share))
    )
    assert seen[0] == ("read", 0.0)
    assert seen[-1] == ("localize", 1.0)
    assert all(later > earlier - 1e-9 for (_, earlier), (_, later) in pairwise(seen)), (
        "one bar from 0 to 1"
    )
    assert [share for stage, share in seen if stage == "localize"] == pytest.approx(
        [0.7, 0.8, 0.9, 1]
    )

    def cancel(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(arc_sequence(), small_network, progress=cancel)


class Contrary(Oracle):
    """A network whose cameras look where they should, and move the other way."""

    def _with_truth(self, prediction: Any, world_from_cam: torch.Tensor) -> Any:
        opposite = world_from_cam.clone()
        opposite[:, :3, 3] *= -1
        return super()._with_truth(prediction, opposite)


def test_what_contradicts_the_truth_counts_no_success_where_the_mean_pose_has_them(
    small_network: Any, tmp_path: Path
) -> None:
    sequence = arc_sequence()
    sequence.world_from_cam[:, :3, 3] *= 0.02  # within 5 cm of the mean
    evaluation = evaluate(sequence, Contrary(small_network, sequence, SPLIT))
    figures, total = evaluation.to_json(), to_json(aggregate([evaluation, evaluation]))
    assert figures["baselines"]["mean_pose"]["success_20cm_20deg"] > 0
    for each in (figures, total):
        assert (
            each["localization"]["success_20cm_20deg"]
            == each["verified"]["success_20cm_20deg"]
            == 0
        )
        assert each["localization"]["median_position_m"] is None
        assert each["alignment"]["collapsed"] and each["alignment"]["reason"]
    assert figures["queries"]["lost"] == 0 and figures["queries"]["each"][0]["position_m"] is None
    assert total["alignment"]["reason"] == "2 of 2 sequences: arc, arc"
    assert "no pose counts as right" in table([evaluation.figures, aggregate([evaluation])])
    colors = colors_in(write_pictures(evaluation, tmp_path)[0])
    assert (0xD1, 0x49, 0x5B) not in colors and (0x00, 0x79, 0x8C) not in colors, (
        "estimates are not shown"
    )


def test_aggregate_takes_medians_over_sequences(small_network: Any) -> None:
    sequence = arc_sequence()
    evaluations = [
        evaluate(sequence, Oracle(small_network, sequence, SPLIT, shift))
        for shift in (0.05, 0.15, 0.30)
    ]
    figures = aggregate(evaluations)
    assert figures.localization.median_position_m == pytest.approx(0.15)
    assert figures.localization.success_20cm_20deg == 1
    assert figures.queries == QueryCounts(total=9, answered=9, lost=0)
    assert tuple(to_json(figures)["baselines"]["mean_pose"]) == LOCALIZATION_KEYS


def test_aggregate_skips_what_is_not_defined_and_counts_what_is_infinite(
    small_network: Any, softmax_network: Any
) -> None:
    without_depth, sequence = arc_sequence(with_depth=False), arc_sequence()
    evaluations = [
        evaluate(without_depth, softmax_network),
        evaluate(without_depth, softmax_network),
        evaluate(sequence, Oracle(small_network, sequence, SPLIT)),
    ]
    figures = aggregate(evaluations)
    assert figures.map.depth.depth_abs_rel == pytest.approx(0, abs=1e-6)
    assert figures.localization.median_position_m == math.inf
    assert figures.queries == QueryCounts(total=9, answered=9, lost=0)


def test_nothing_cannot_be_aggregated() -> None:
    with pytest.raises(InputError, match="no evaluations"):
        aggregate([])


def test_cancelling_while_images_are_read_reads_no_more(small_network: Any) -> None:
    sequence, reads = arc_sequence(), []

    def read_image(index: int) -> Any:
        reads.append(index)
        return sequence.read_image(index)

    def cancel(stage: str, share: float) -> None:
        if reads:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(sequence, read_image=read_image), small_network, progress=cancel)
    assert reads == [0]
