from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.pipeline.prior_alignment import align_with_priors

TRUTH = Sim3(
    2.5,
    rotation_from_axis_angle(torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)),
    torch.tensor([10.0, -3.0, 1.0], dtype=torch.float64),
)


@pytest.fixture
def cameras() -> Tensor:
    """Twelve reconstructed camera poses (12, 4, 4) along a curve, in scene units."""
    t = torch.linspace(0, 2, 12, dtype=torch.float64)
    positions = torch.stack([t, 0.3 * torch.sin(2 * t), 0.2 * t * t], dim=-1)
    return se3(rotation_from_axis_angle(torch.stack([0.1 * t, 0.5 * t, 0 * t], dim=-1)), positions)


def by_frame(priors: list[Tensor | None]) -> dict[int, Tensor]:
    return {frame: prior for frame, prior in enumerate(priors) if prior is not None}


def test_exact_priors_give_the_exact_similarity(cameras: Tensor) -> None:
    found = align_with_priors(cameras, by_frame(list(TRUTH.poses(cameras))))
    assert found.source == "pose_priors" and found.outliers == () and found.residual_m is not None
    assert found.metric_from_scene is not None and found.residual_m < 1e-9
    torch.testing.assert_close(found.metric_from_scene.matrix(), TRUTH.matrix(), rtol=0, atol=1e-9)


def test_wrong_priors_are_refused_and_named_and_the_rest_decides(cameras: Tensor) -> None:
    noise = torch.Generator().manual_seed(1)
    priors: list[Tensor | None] = list(TRUTH.poses(cameras))
    for prior in priors:
        assert prior is not None
        prior[:3, 3] += 0.01 * torch.randn(3, generator=noise, dtype=torch.float64)
    for wrong in (2, 5, 9):
        moved = priors[wrong]
        assert moved is not None
        moved[:3, 3] += torch.tensor([4.0, -2.0, 3.0])
    priors[7] = None
    found = align_with_priors(cameras, by_frame(priors))
    assert found.outliers == (2, 5, 9)
    assert (
        found.metric_from_scene is not None and abs(found.metric_from_scene.scale / 2.5 - 1) < 0.02
    )
    assert found.residual_m is not None and 0.005 < found.residual_m < 0.03, (
        "the noise has 0.017 m rms"
    )


def test_without_enough_priors_or_motion_the_scene_says_why_it_is_not_metric(
    cameras: Tensor,
) -> None:
    true = list(TRUTH.poses(cameras))
    cases: list[tuple[list[Tensor | None], str]] = [
        ([None] * 12, "none: no frame has a prior pose"),
        ([*true[:2], *[None] * 10], "none: 2 frames have a prior pose, 3 are needed"),
        ([true[0]] * 12, "none: the prior poses spread over 0 m, 0.05 m are needed"),
    ]
    for priors, why in cases:
        found = align_with_priors(cameras, by_frame(priors))
        assert found.metric_from_scene is None and found.residual_m is None and found.source == why


def test_priors_that_contradict_the_reconstruction_give_no_scale(cameras: Tensor) -> None:
    dice = torch.Generator().manual_seed(3)
    elsewhere = TRUTH.poses(cameras)
    elsewhere[:, :3, 3] = 5 * torch.randn(12, 3, generator=dice, dtype=torch.float64)
    found = align_with_priors(cameras, by_frame(list(elsewhere)))
    assert found.metric_from_scene is None
    assert found.source.startswith("none: ") and (
        "contradict" in found.source or "agree" in found.source
    )
