from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vggt3_ros.evaluation.live_run import LiveRun, Spread
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3


def pose(x: float, degrees: float = 0.0) -> Tensor:
    turn = torch.tensor([0.0, 0.0, math.radians(degrees)], dtype=torch.float64)
    return se3(rotation_from_axis_angle(turn), torch.tensor([x, 0.0, 0.0], dtype=torch.float64))


TRUE = {stamp: pose(float(stamp)) for stamp in range(6)}
MAP = torch.stack([pose(0.0), pose(3.0)])


def live_run(**changes: object) -> LiveRun:
    """Six images: 0 was not tried, 1 refused, 2 to 5 localized, the last one 1 cm and 1 degree
    off.
    """
    parts: dict[str, object] = {
        "refusals": {1: "3 of 20 landmarks agree"},
        "poses": {2: pose(2.0), 3: pose(3.0), 4: pose(4.0), 5: pose(5.01, 1.0)},
        "delays_ms": {2: 100.0, 3: 200.0, 4: 300.0, 5: 1000.0},
        "map_poses": MAP,
        "true_poses": TRUE,
        "mapped_fractions": {0: 1.0, 1: 0.9, 2: 0.8, 3: 0.1, 4: 0.5},
    }
    return LiveRun(**{**parts, **changes})  # type: ignore[arg-type]


def test_figures_count_what_was_tried_and_what_could_be_answered() -> None:
    figures = live_run().figures()
    assert (figures.query_frames, figures.localized, figures.refused, figures.wrong) == (5, 4, 1, 0)
    # 1, 2 and 4; 0 was not tried
    assert (figures.answerable, figures.localized_answerable) == (3, 2)
    assert figures.position_error_m.median == 0.0
    assert figures.position_error_m.p90 == pytest.approx(0.007)
    assert figures.rotation_error_deg.p90 == pytest.approx(0.7)
    assert (figures.image_to_pose_ms.median, figures.image_to_pose_ms.p90) == pytest.approx(
        (250.0, 790.0)
    )
    assert figures.trajectory_extent_m == 5.0  # from the map's first image to the last one tried
    assert live_run().failure() is None


@pytest.mark.parametrize("off", [pose(2.6), pose(2.0, 16.0)])
def test_a_single_pose_far_from_the_truth_fails_the_run(off: Tensor) -> None:
    run = live_run(poses={2: off, 3: pose(3.0), 4: pose(4.0)})
    assert run.figures().wrong == 1
    assert run.failure() == "1 of 3 published poses are wrong (more than 0.5 m or 15 degrees off)"


def test_without_truth_errors_are_unknown_and_nothing_is_called_wrong() -> None:
    run = live_run(true_poses={}, mapped_fractions=None)
    figures = run.figures()
    assert figures.wrong is figures.answerable is figures.localized_answerable is None
    assert figures.position_error_m == figures.rotation_error_deg == Spread(None, None)
    assert figures.localized == 4 and run.failure() is None
    assert figures.trajectory_extent_m == pytest.approx(5.01)


def test_poses_without_a_scale_are_not_compared_with_the_truth() -> None:
    run = live_run(is_metric=False)
    figures = run.figures()
    assert figures.wrong is figures.trajectory_extent_m is figures.position_error_m.median is None
    assert (
        run.failure() == "the map has no scale, and so its poses cannot be compared with the truth"
    )
    assert live_run(is_metric=False, true_poses={}).failure() is None


def test_nothing_localized_fails_with_the_most_frequent_reason_whatever_its_numbers() -> None:
    refusals = {1: "dark", 2: "3 of 20 landmarks agree", 3: "0.5 of 7 landmarks agree"}
    run = live_run(refusals=refusals, poses={}, delays_ms={})
    assert run.figures().refusal_reasons == {"3 of 20 landmarks agree": 2, "dark": 1}
    assert (
        run.failure() == "none of 3 images was localized, mostly because: 3 of 20 landmarks agree"
    )


def test_a_localizer_that_tried_nothing_fails_the_run() -> None:
    assert live_run(refusals={}, poses={}, delays_ms={}).failure() == "the localizer tried no image"
