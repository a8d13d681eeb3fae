"""Refined depth is exact where views agree, goes on along planes, and what cannot be known is not
claimed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vggt3_ros.dense.agreement import Agreement, believed
from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.fusion import TAKEN, fused_cloud
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.refine import OverBudgetError, refine
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import look_at, rotation_from_axis_angle
from vggt3_ros.threads import one_torch_thread

from ..pretended_device import DEVICE, PretendedDevice
from .scenes import HEIGHT, WIDTH, Rectangle, filmed, floor, keyframes, row, wall

BOX = Rectangle((0.6, 2.2, -0.6), (0.8, 0.6, 0.0), (0.0, 0.0, 1.0), (0.3, 0.4), seed=7)
MIDDLE = (slice(None), slice(24, 36), slice(32, 48))


@pytest.fixture(scope="module")
def scene() -> tuple[Keyframes, Tensor]:
    """A wall, a floor and a box before five cameras, and the true depth."""
    return keyframes([wall(), floor(), BOX], row())


@pytest.fixture(scope="module")
def refined(scene) -> DenseDepth:
    return refine(scene[0])


def share(chosen: Tensor) -> float:
    return float(chosen.float().mean())


def has(refined: DenseDepth, *kinds: Provenance) -> Tensor:
    return torch.isin(
        refined.provenance, torch.tensor([int(kind) for kind in kinds], dtype=torch.uint8)
    )


def relative_error(refined: DenseDepth, depth: Tensor) -> Tensor:
    return (refined.depth / depth - 1).abs()


def test_most_pixels_are_agreed_on_and_exact(scene, refined) -> None:
    agreed = has(refined, Provenance.AGREED)
    error = relative_error(refined, scene[1])
    assert float((scene[0].predicted / scene[1] - 1).abs().mean()) > 0.04  # what it started from
    assert share(agreed) > 0.75
    assert float(error[agreed].median()) < 0.0015
    assert share(error[agreed] > 0.03) < 0.01
    assert share(error[has(refined, *TAKEN)] > 0.05) < 0.015


def test_agreed_pixels_say_how_many_views_agree(refined) -> None:
    agreed = has(refined, Provenance.AGREED)
    assert bool((refined.agreeing[agreed] >= 1).all())
    assert bool((refined.agreeing[~agreed] == 0).all())
    assert int(refined.agreeing.max()) == 4


def test_surface_at_a_grazing_angle_is_agreed_on() -> None:
    ground, depth = keyframes([floor(-0.7)], row(step=0.35, target=(0.0, 2.0, -0.7)))
    refined = refine(ground)
    near = depth < 3
    assert share(has(refined, Provenance.AGREED)[near]) > 0.6


def test_slants_are_found_when_neither_network_nor_landmarks_know_them(scene) -> None:
    flat = torch.full_like(scene[1], 2.5)
    vague, depth = keyframes([wall(), floor(), BOX], row(), predicted=flat, per_keyframe=8)
    refined = refine(vague, DenseSettings(planes=False))
    agreed = has(refined, Provenance.AGREED)
    assert share(agreed) > 0.775
    assert float(relative_error(refined, depth)[agreed].median()) < 0.0019


def test_plane_is_not_carried_on_over_what_looks_different_to_other_views() -> None:
    blank, _ = blank_wall()
    images = blank.images.clone()
    images[2, :, 24:36, 32:48] = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(3))
    refined = refine(replace(blank, images=images))
    assert share(has(refined, *TAKEN)[2, 26:34, 34:46]) < 0.05


def test_point_that_more_views_see_through_than_agree_with_is_not_believed(scene) -> None:
    flat = torch.full((1, HEIGHT, WIDTH), 3.0)
    one, two = torch.ones_like(flat), torch.full_like(flat, 2.0)
    for through, expected in ((one, True), (two, False)):
        said = Agreement(agreeing=one, seeing=two, through=through, fused=flat, angle=0.1 * one)
        assert bool((believed(said, scene[0].intrinsics[:1]) == expected).all())


def test_agreement_is_in_proportion_to_the_views_that_see_a_point(scene) -> None:
    flat = torch.full((1, HEIGHT, WIDTH), 3.0)
    none, two = torch.zeros_like(flat), torch.full_like(flat, 2.0)
    for seeing, expected in ((6.0, True), (7.0, False)):
        said = Agreement(
            agreeing=two, seeing=torch.full_like(flat, seeing), through=none, fused=flat, angle=two
        )
        assert bool((believed(said, scene[0].intrinsics[:1]) == expected).all())


def blank_wall() -> tuple[Keyframes, Tensor]:
    """A wall without texture in its middle, where the network sees a bump of a fifth of the
    distance.
    """
    blank, depth = keyframes([wall(blank=(0.6, 0.45))], row())
    across, down = torch.arange(WIDTH) - 40.0, torch.arange(HEIGHT)[:, None] - 30.0
    bump = torch.exp(-0.5 * ((across / 10) ** 2 + (down / 8) ** 2))
    return replace(blank, predicted=depth * (1 - 0.2 * bump)), depth


def test_wall_without_texture_is_carried_on_as_a_plane_whatever_the_network_says() -> None:
    blank, depth = blank_wall()
    refined = refine(blank)
    assert share(has(refined, Provenance.PLANE)[MIDDLE]) > 0.95
    assert float(relative_error(refined, depth)[MIDDLE].max()) < 0.005
    assert torch.allclose(
        refined.planes.abs().float(), torch.tensor([[0.0, 1.0, 0.0, 3.0]]), atol=0.01
    )
    assert 0.3 < float(refined.plane_shares) < 1


def test_without_planes_the_wall_has_the_shape_that_the_network_gave_it_and_is_not_taken() -> None:
    blank, depth = blank_wall()
    refined = refine(blank, DenseSettings(planes=False))
    assert len(refined.planes) == 0
    assert float(relative_error(refined, depth)[MIDDLE].median()) > 0.05
    assert share(has(refined, Provenance.FAR)[MIDDLE]) > 0.95


def test_texture_of_less_than_a_grey_value_is_matched_but_not_noise() -> None:
    """Of one grey value of noise, three pixels of a hundred agree by chance: where the wall is."""
    faint, depth = keyframes([wall(blank=(3.0, 2.0), faint=0.01)], row())
    texture = faint.images[:, :, MIDDLE[1], MIDDLE[2]].std() * 255
    assert 0.3 < float(texture) < 1.0
    refined = refine(faint, DenseSettings(planes=False))
    agreed = has(refined, Provenance.AGREED)
    assert share(agreed[MIDDLE]) > 0.8
    assert float(relative_error(refined, depth)[MIDDLE].median()) < 0.005
    blank, _ = blank_wall()
    noise = torch.randn(blank.images.shape, generator=torch.Generator().manual_seed(1)) / 255
    noisy = replace(blank, images=(blank.images + noise).clamp(0, 1))
    refined = refine(noisy, DenseSettings(planes=False))
    agreed = has(refined, Provenance.AGREED)[MIDDLE]
    assert share(agreed) < 0.05
    assert share(relative_error(refined, depth)[MIDDLE][agreed] > 0.02) == 0


def test_plane_that_only_a_neighbour_sees_as_one_is_carried_on() -> None:
    """A camera near the wall has a strip of texture at the edge of its image, too narrow to tell a
    plane from.
    """
    poses = row()
    poses[2, :3, 3] += torch.tensor([0.25, 1.2, 0.0])
    poses[2, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    near, depth = keyframes([wall(blank=(1.2, 0.9))], poses)
    near = replace(near, predicted=torch.cat([depth[:2], 0.85 * depth[2:3], depth[3:]]))
    refined = refine(near)
    inside = (slice(10, 50), slice(5, 65))
    assert share(has(refined, Provenance.PLANE)[2][inside]) > 0.95
    assert float(relative_error(refined, depth)[2][inside].max()) < 0.01


def test_image_of_another_place_is_agreed_with_nowhere_and_spoils_nothing(scene) -> None:
    images = scene[0].images.clone()
    images[2] = filmed([wall(2.2, seed=9)], row())[0][2]
    refined = refine(replace(scene[0], images=images))
    assert share(has(refined, *TAKEN)[2]) < 0.02
    others = torch.tensor([0, 1, 3, 4])
    taken = has(refined, *TAKEN)[others]
    assert share(taken) > 0.7
    assert share(relative_error(refined, scene[1])[others][taken] > 0.05) < 0.02


@pytest.mark.parametrize("wrong", ["noise", "nan", "zero", "half four times as far"])
def test_wildly_wrong_network_changes_little_of_what_is_taken(scene, wrong: str) -> None:
    predicted = scene[0].predicted.clone()
    if wrong == "noise":
        predicted *= torch.exp(
            torch.randn(predicted.shape, generator=torch.Generator().manual_seed(0))
        )
    elif wrong == "nan":
        predicted[:, :, 30:] = torch.nan
    elif wrong == "zero":
        predicted[:] = 0
    else:
        predicted[:, :30] *= 4
    refined = refine(replace(scene[0], predicted=predicted))
    taken = has(refined, *TAKEN)
    error = relative_error(refined, scene[1])[taken]
    assert share(taken) > 0.75
    assert share(error > 0.05) < 0.025


def test_cameras_at_one_place_agree_on_nothing() -> None:
    poses = row(1).repeat(4, 1, 1)
    for pose, angle in zip(poses, (-0.1, -0.03, 0.04, 0.1), strict=True):
        pose[:3, :3] @= rotation_from_axis_angle(
            torch.tensor([0.0, angle, 0.0], dtype=torch.float64)
        )
    poses[:, 0, 3] += torch.tensor([0.0, 0.01, 0.02, 0.005])
    still, _ = keyframes([wall(), floor(), BOX], poses)
    refined = refine(still)
    assert bool(has(refined, Provenance.FAR).all())
    assert len(fused_cloud(refined, still)) == 0


def test_two_cameras_at_one_place_do_not_count_as_views_that_agree(scene) -> None:
    poses = row()
    twin = poses[2].clone()
    twin[0, 3] += 0.005
    twins, _ = keyframes([wall(), floor(), BOX], torch.cat([poses[[0, 2]], twin[None]]))
    refined = refine(twins)
    assert int(refined.agreeing[1:].max()) == 1  # the other one of the twins says nothing


def test_cameras_that_see_different_walls_agree_on_nothing() -> None:
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    away = look_at(
        torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, -3.0, 0.0], dtype=torch.float64), up
    )
    apart, depth = keyframes([wall(), wall(-3.0, seed=4)], torch.stack([row(1)[0], away]))
    refined = refine(apart)
    assert bool(has(refined, Provenance.FAR).all())
    assert float(relative_error(refined, depth).max()) < 0.25


def test_images_without_texture_leave_the_network_alone(scene) -> None:
    refined = refine(replace(scene[0], images=torch.full_like(scene[0].images, 0.5)))
    assert bool(has(refined, Provenance.FAR).all())


def test_one_keyframe_has_the_depth_of_the_network(scene) -> None:
    keyframe = scene[0]
    first = keyframe.observed_from == 0
    one = Keyframes(
        *(
            getattr(keyframe, name)[:1]
            for name in ("images", "intrinsics", "world_from_cam", "predicted")
        ),
        keyframe.points,
        keyframe.observed[first],
        keyframe.observed_from[first],
    )
    refined = refine(one)
    assert bool(has(refined, Provenance.FAR).all())
    assert torch.allclose(refined.depth, one.predicted)


def test_expected_error_is_about_the_mean_error(scene, refined) -> None:
    error = (refined.depth - scene[1]).abs()
    for kind in (Provenance.AGREED, Provenance.PLANE):
        chosen = has(refined, kind)
        ratio = float(error[chosen].mean() / refined.sigma[chosen].mean())
        assert 0.2 < ratio < 2


def test_batches_do_not_change_the_result(scene, refined) -> None:
    other = refine(scene[0], DenseSettings(batch=2))
    assert torch.equal(other.provenance, refined.provenance)
    assert torch.allclose(other.depth, refined.depth, rtol=1e-5)


def test_threads_do_not_change_the_result(scene) -> None:
    with one_torch_thread():
        alone = refine(scene[0], DenseSettings(batch=1))
        torch.set_num_threads(2)
        together = refine(scene[0], DenseSettings(batch=1))
    for name in ("depth", "provenance", "sigma", "planes"):
        assert torch.equal(getattr(alone, name), getattr(together, name)), name


def test_progress_grows_to_one_and_may_cancel(scene) -> None:
    told: list[float] = []
    refine(scene[0], DenseSettings(batch=1), told.append)
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 1
    assert len(told) > 10

    def cancel(share: float) -> None:
        if share > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(scene[0], DenseSettings(batch=1), cancel)


def test_what_would_take_too_long_ends_after_the_first_batch(
    scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter((0.0, 5.0))
    monkeypatch.setattr("vggt3_ros.dense.refine.perf_counter", lambda: next(ticks))
    with (
        one_torch_thread(),
        pytest.raises(
            OverBudgetError,
            match="at 80 pixels a keyframe was expected to take 5 s, 1 s are allowed",
        ),
    ):
        refine(scene[0], DenseSettings(batch=2, seconds=1.0))


def test_other_devices_are_not_mixed_up(scene, refined) -> None:
    with PretendedDevice():
        there = Keyframes(*(value.to(DEVICE) for value in vars(scene[0]).values()))
        result = refine(there)
        provenance, depth = result.provenance.cpu(), result.depth.cpu()
    assert share(provenance == refined.provenance) > 0.99
    assert share((depth / refined.depth - 1).abs() < 1e-3) > 0.99
