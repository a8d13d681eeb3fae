"""How drives with drifting odometry are judged."""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.evaluation.drive_figures import drive_figures
from vggt3_ros.evaluation.drives import close_drive, markdown
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.se3 import rotation_vector
from vggt3_ros.worlds.ring import Ring

TRUE = Ring(900_001, 40.0).drive(60)


def loop(off_m: float) -> dict[str, object]:
    relative = torch.linalg.inv(TRUE[0]) @ TRUE[5]
    position = relative[:3, 3] + torch.tensor([off_m, 0, 0], dtype=torch.float64)
    turn = rotation_vector(relative[:3, :3])
    return {
        "keyframes": [0, 5],
        "position_m": position.tolist(),
        "rotation_rad": turn.tolist(),
    }


def test_a_wrong_scale_is_an_error_of_rigid_motion_alone() -> None:
    larger = TRUE.clone()
    larger[:, :3, 3] *= 1.02
    odometry = Priors.parse("drift:2%,0.1deg").poses(TRUE, 0)
    figures = drive_figures(TRUE, odometry, larger, {})
    assert figures.map_ate_m == pytest.approx(0, abs=1e-6)
    assert figures.map_rigid_m > 0.1
    assert figures.odometry_ate_m > 0.1
    assert figures.loops == 0


def test_loops_that_lie_elsewhere_are_false() -> None:
    odometry = Priors.parse("drift:2%,0.1deg").poses(TRUE, 0)
    report = {"loops": {"pairs": [loop(0.1), loop(0.6)]}}
    figures = drive_figures(TRUE, odometry, TRUE, report)
    assert (figures.loops, figures.loops_false) == (2, 1)


def test_odometry_does_not_notice_the_next_floor() -> None:
    row = close_drive(load_sequence("floors:1:20:14"), Drift(0.02, math.radians(0.5)))
    assert row.figures.loops == 0
    # the map is the odometry, in which both floors are one
    assert row.figures.map_ate_m == row.figures.odometry_ate_m > 0.5
    assert "| floors:1:20:14 | 14 |" in markdown([row])
