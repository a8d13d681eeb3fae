"""What maps are told of their cameras."""

from __future__ import annotations

import math

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.geometry.se3 import check_pose, rotation_angle

from .oracle import arc_sequence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Priors()),
        ("given", Priors("given")),
        ("noisy:3cm,1deg", Priors("noisy", 0.03, 1.0)),
        ("noisy:0.1m,.5deg", Priors("noisy", 0.1, 0.5)),
        ("drift:2%,0.1deg", Priors("drift", drift=Drift(0.02, math.radians(0.1)))),
    ],
)
def test_texts_are_understood_and_come_back(text: str, expected: Priors) -> None:
    assert Priors.parse(text) == expected
    assert Priors.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "noisy",
        "noisy:3cm",
        "noisy:3,1",
        "noisy:-3cm,1deg",
        "noisy:3cm,1deg ",
        "noisy:3km,1deg",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="noisy:3cm,1deg"):
        Priors.parse(text)


@pytest.mark.parametrize("text", ["noisy:2000m,1deg", "noisy:1cm,181deg"])
def test_absurd_noise_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="at most 1000 m and 180 degrees"):
        Priors.parse(text)


def test_given_priors_are_the_truth_and_none_are_none() -> None:
    true = arc_sequence().world_from_cam
    assert all(
        torch.equal(prior, pose)
        for prior, pose in zip(Priors("given").poses(true, 0), true, strict=True)
    )  # type: ignore[arg-type]
    assert Priors().poses(true, 0) == [None] * len(true)


def test_noise_has_the_stated_rms_in_all_directions_and_comes_again_with_its_seed() -> None:
    true = arc_sequence().world_from_cam[1].expand(4000, 4, 4)
    priors = Priors("noisy", 0.1, 3.0)
    noisy = torch.stack(priors.poses(true, 7))  # type: ignore[arg-type]
    check_pose(noisy[0], "a noisy pose")
    shift = noisy[:, :3, 3] - true[:, :3, 3]
    turn = rotation_angle(true[:, :3, :3].transpose(-1, -2) @ noisy[:, :3, :3]).rad2deg()
    assert float(shift.square().sum(1).mean().sqrt()) == pytest.approx(0.1, rel=0.03)
    assert shift.std(0).tolist() == pytest.approx([0.1 / 3**0.5] * 3, rel=0.06)
    assert float(turn.square().mean().sqrt()) == pytest.approx(3, rel=0.03)
    assert torch.equal(noisy, torch.stack(priors.poses(true, 7)))  # type: ignore[arg-type]
    assert not torch.equal(noisy, torch.stack(priors.poses(true, 8)))  # type: ignore[arg-type]


def test_odometry_goes_astray_along_its_way() -> None:
    true = torch.eye(4, dtype=torch.float64).repeat(1001, 1, 1)
    true[:, 0, 3] = torch.arange(1001)
    poses = torch.stack(Priors.parse("drift:2%,0.01deg").poses(true, 0))  # type: ignore[arg-type]
    assert torch.equal(poses[0], true[0])
    steps = (poses[1:] - poses[:-1])[:, :3, 3].norm(dim=1)
    # 200 stretches: a mean error of 2 %, and as large a deviation
    assert abs(float(steps.mean()) - 1) == pytest.approx(0.02, rel=0.2)
    assert float(steps.std()) == pytest.approx(0.02, rel=0.2)
    turned = rotation_angle(poses[-1, :3, :3])
    assert math.degrees(float(turned)) == pytest.approx(10, rel=0.2)
