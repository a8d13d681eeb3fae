"""Photometric jitter changes every image in its own way and nothing about its geometry."""

from __future__ import annotations

import torch

from vggt3_ros.worlds.jitter import lens_and_shutter, photometric_jitter


def images() -> torch.Tensor:
    return torch.rand(4, 3, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


def test_jitter_is_reproducible_bounded_and_leaves_its_input_alone() -> None:
    given = images()
    first, again = (photometric_jitter(given, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == given.shape
    assert first.min() >= 0 and first.max() <= 1 and torch.isfinite(first).all()
    assert torch.equal(given, images())


def test_every_image_is_changed_in_its_own_way() -> None:
    same = torch.full((64, 3, 16, 16), 0.4)
    means = photometric_jitter(same, torch.Generator().manual_seed(2)).mean((2, 3))
    assert means.mean(1).std() > 0.05  # exposure and gamma
    assert (means[:, 0] - means[:, 2]).std() > 0.01  # white balance


def test_structure_stays_in_place() -> None:
    coarse = torch.rand(8, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    given = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    jittered = photometric_jitter(given, torch.Generator().manual_seed(3))
    a, b = (x - x.mean((1, 2, 3), keepdim=True) for x in (given, jittered))
    correlation = (a * b).sum((1, 2, 3)) / (
        a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))
    ).sqrt()
    assert correlation.min() > 0.8


def test_lenses_darken_corners_and_shutters_band_rows_of_some_images() -> None:
    grey = torch.full((200, 3, 24, 32), 0.5)
    first, again = (lens_and_shutter(grey, torch.Generator().manual_seed(5)) for _ in range(2))
    assert (
        torch.equal(first, again)
        and first.shape == grey.shape
        and first.min() >= 0
        and first.max() <= 1
    )
    edge, middle = first[:, 0, 12, 0], first[:, 0, 12, 15]  # of one row, which no band tells apart
    darker = edge < 0.97 * middle
    assert 0.25 < darker.float().mean() < 0.6 and (edge <= middle + 1e-5).all()
    banded = first[~darker, 0, :, 15].std(1) > 0.01
    assert 0.15 < banded.float().mean() < 0.5
    assert torch.equal(first[:, 0], first[:, 1])  # light has no colour of its own here
