from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.se3 import look_at
from vggt3_ros.geometry.uncertainty import corrected_pose, pose_error_vector, squared_error
from vggt3_ros.landmarks.acceptance import Evidence, too_little
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.joint import MIN_OWN, View, is_thin, locate_jointly
from vggt3_ros.landmarks.joint_pnp import RigView, adjust_rig
from vggt3_ros.landmarks.locate import LandmarkLocalizer, LocateSettings
from vggt3_ros.landmarks.planes import off_best_plane
from vggt3_ros.landmarks.pnp import PnpSettings, whitening

INTRINSICS = np.array([[520.0, 0, 320], [0, 520, 240], [0, 0, 1]])
ODOMETRY = np.diag([0.03**2] * 3 + [0.01**2] * 3)


def error_of(covariance: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(np.linalg.cholesky(covariance) @ rng.normal(size=6))


def displaced(pose: np.ndarray, error: torch.Tensor) -> np.ndarray:
    return corrected_pose(torch.from_numpy(pose), error).numpy()


# -- the adjustment
# --------------------------------------------------------------------------------------------------


def path(count: int) -> list[np.ndarray]:
    """world_from_cam of a camera that moves to the right and turns a little."""
    up = torch.tensor([0.0, 0.0, 1.0]).double()
    at = [torch.tensor([0.3 * i, 0.1 * i, 1.0]).double() for i in range(count)]
    return [
        look_at(place, place + torch.tensor([0.1 * i, 1.0, 0.0]).double(), up).numpy()
        for i, place in enumerate(at)
    ]


def rig_view(
    pose: np.ndarray, newest: np.ndarray, points: int, rng: np.random.Generator, noise: float = 0.5
) -> RigView:
    """A view of that many points, with odometry as wrong as it says, seen to `noise` pixels."""
    seen = rng.uniform([20, 20], [620, 460], (points, 2))
    local = np.concatenate(
        [(seen - INTRINSICS[:2, 2]) / 520, np.ones((points, 1))], 1
    ) * rng.uniform(2, 5, (points, 1))
    world = local @ pose[:3, :3].T + pose[:3, 3]
    white = whitening(pose, world, INTRINSICS, None, PnpSettings(noise_px=noise))
    relative = np.linalg.inv(newest) @ pose
    odometry = relative if pose is newest else displaced(relative, error_of(ODOMETRY, rng))
    return RigView(
        world, seen + noise * rng.normal(size=seen.shape), white, INTRINSICS, odometry, ODOMETRY
    )


def test_images_of_three_points_each_fix_one_pose_with_an_honest_covariance() -> None:
    poses, squares = path(4), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        start = displaced(poses[-1], error_of(4 * ODOMETRY, rng))
        found = adjust_rig(start, [rig_view(pose, poses[-1], 3, rng) for pose in poses])
        assert found is not None and len(found.world_from_cam) == 4
        error = pose_error_vector(
            *(torch.from_numpy(pose) for pose in (found.world_from_cam[-1], poses[-1]))
        )
        squares.append(squared_error(error, torch.from_numpy(found.covariance)))
    assert 3.0 < np.median(squares) < 8.0  # 5.35 of six degrees of freedom
    assert np.mean(np.array(squares) < 12.6) > 0.85


def test_a_jump_of_the_odometry_strains_the_rig() -> None:
    rng, poses = np.random.default_rng(0), path(3)
    views = [rig_view(pose, poses[-1], 12, rng) for pose in poses]
    right = adjust_rig(poses[-1], views)
    jumped = displaced(
        views[0].newest_from_cam, torch.tensor([0.4, 0, 0, 0, 0, 0], dtype=torch.float64)
    )
    wrong = adjust_rig(poses[-1], [replace(views[0], newest_from_cam=jumped), *views[1:]])
    assert right is not None and wrong is not None
    assert right.strain < 22.5 < wrong.strain


def test_a_rig_that_sees_a_single_point_has_no_certain_pose() -> None:
    rng, poses = np.random.default_rng(0), path(2)
    views = [rig_view(pose, poses[-1], 1, rng) for pose in poses]
    found = adjust_rig(poses[-1], views)
    assert found is None or np.linalg.eigvalsh(found.covariance)[-1] > 1e-3


# -- the evidence
# --------------------------------------------------------------------------------------------------


def thinned(features: Features, count: int, seed: int) -> Features:
    """Some of the features, as a bare wall or bad light leaves them."""
    kept = np.sort(np.random.default_rng(seed).permutation(len(features))[:count])
    return replace(features, pixels=features.pixels[kept], descriptors=features.descriptors[kept])


@pytest.fixture(scope="module")
def localizer(mapped_room):
    return LandmarkLocalizer(mapped_room.landmarks, LocateSettings(min_support=0.2))


def in_a_row(
    localizer, room, chosen, count: int = 25, among: dict[int, np.ndarray] | None = None
) -> list[View]:
    """Images of `count` features each, tried alone, and true motions between them that odometry is
    not sure of.

    among: the features of each image that these are drawn from.
    """
    views = []
    for index in map(int, chosen):
        features = room.features[index]
        if among is not None:
            kept = among[index]
            features = replace(
                features, pixels=features.pixels[kept], descriptors=features.descriptors[kept]
            )
        features = thinned(features, count, index)
        alone = localizer.locate(features, room.intrinsics)
        relative = np.linalg.inv(room.poses[chosen[-1]]) @ room.poses[index]
        views.append(View(features, room.intrinsics, alone, relative, ODOMETRY))
    return views


@pytest.fixture(scope="module")
def thin_runs(mapped_room, localizer) -> list[tuple[list[View], np.ndarray]]:
    """Runs of four images of which the newest shows too little by itself, and where it was."""
    room = mapped_room.room
    indices, runs = [*room.map_indices[1::2], *room.query_indices], []
    for first in range(len(indices) - 3):
        views = in_a_row(localizer, mapped_room, indices[first : first + 4])
        if is_thin(views[-1].located, localizer.settings):
            runs.append((views, mapped_room.poses[indices[first + 3]]))
    assert len(runs) >= 6
    return runs


def test_images_that_show_too_little_alone_show_enough_together(localizer, thin_runs) -> None:
    together = [(locate_jointly(localizer, views), pose) for views, pose in thin_runs]
    found = [(each, pose) for each, pose in together if each is not None]
    assert len(found) >= 0.5 * len(thin_runs)
    for each, pose in found:
        assert (
            each.accepted
            and each.source == "joint"
            and "images and the odometry between them" in each.reason
        )
        assert too_little(each.evidence, localizer.settings) is None
        assert each.evidence.has_depth and 0.2 <= each.support <= 1
        # those of the newest image
        assert each.inliers > len(each.landmarks) == len(each.features) >= MIN_OWN
        error = pose_error_vector(torch.from_numpy(each.world_from_cam), torch.from_numpy(pose))
        assert error[:3].norm() < 0.05 and error[3:].norm() < 0.02
        assert squared_error(error, torch.from_numpy(each.covariance)) < 22.5


def test_one_wall_alone_is_not_believed(mapped_room, localizer, monkeypatch) -> None:
    """Its copy elsewhere would look the same, and thin images show nothing beside it that
    contradicts.
    """
    landmarks, beside = mapped_room.landmarks, []
    for first in range(0, len(mapped_room.room.map_indices) - 3, 3):
        chosen = mapped_room.room.map_indices[first : first + 4]
        found = [localizer.locate(mapped_room.features[i], mapped_room.intrinsics) for i in chosen]
        seen = np.unique(np.concatenate([each.landmarks for each in found]))
        flat = seen[
            ~off_best_plane(
                landmarks.positions[seen].astype(float), mapped_room.poses[chosen[-1]][:3, 3]
            )
        ]
        wall = {
            int(i): each.features[np.isin(each.landmarks, flat)]
            for i, each in zip(chosen, found, strict=True)
        }
        views = in_a_row(localizer, mapped_room, chosen, 10, among=wall)
        assert locate_jointly(localizer, views) is None
        with monkeypatch.context() as patch:
            patch.setattr(Evidence, "has_depth", True)
            beside.append(locate_jointly(localizer, views))
    assert any(beside), "nothing else would have been missed"


def test_the_same_image_again_is_no_further_evidence(localizer, thin_runs) -> None:
    for views, _ in thin_runs:
        again = [replace(views[-1]) for _ in range(4)]
        found = locate_jointly(localizer, again)
        assert found is None or found.inliers == len(np.unique(found.landmarks))  # each counts once


def test_where_odometry_contradicts_nothing_is_found(localizer, thin_runs) -> None:
    aside = np.eye(4)
    aside[0, 3] = 1.0
    for views, _ in thin_runs:
        moved = [replace(view, newest_from_cam=view.newest_from_cam @ aside) for view in views[:-1]]
        assert locate_jointly(localizer, [*moved, views[-1]]) is None


def test_one_image_that_shows_much_else_contradicts_all(localizer, other_room, thin_runs) -> None:
    """As where a few things of the map stand in another place: what the map expects around them is
    not there.
    """
    found = [views for views, _ in thin_runs if locate_jointly(localizer, views) is not None]
    assert len(found) >= 3
    for views in found:
        own, other = views[-1].features, thinned(other_room.features[0], 600, 0)
        pixels = np.concatenate([own.pixels, other.pixels])
        mixed = replace(
            own, pixels=pixels, descriptors=np.concatenate([own.descriptors, other.descriptors])
        )
        assert locate_jointly(localizer, [*views[:-1], replace(views[-1], features=mixed)]) is None


def test_an_older_image_full_of_other_things_contradicts_too(
    localizer, other_room, thin_runs
) -> None:
    stranger = other_room.features[0]
    for views, _ in thin_runs:
        among = replace(
            views[0], features=stranger, located=localizer.locate(stranger, other_room.intrinsics)
        )
        assert locate_jointly(localizer, [among, *views[1:]]) is None


def test_another_place_is_not_taken_for_the_map(localizer, other_room) -> None:
    for count in (25, 100, 1000):
        for last in (4, 6, 8):
            views = in_a_row(localizer, other_room, range(last - 4, last), count)
            assert locate_jointly(localizer, views) is None


def test_an_image_that_shows_nothing_of_the_map_has_no_pose(
    localizer, mapped_room, other_room, thin_runs
) -> None:
    views, _ = thin_runs[0]
    stranger = in_a_row(localizer, other_room, [3], 100)[0]
    empty = replace(stranger, features=thinned(stranger.features, 0, 0))
    empty = replace(empty, located=localizer.locate(empty.features, other_room.intrinsics))
    for newest in (stranger, empty):
        assert locate_jointly(localizer, [*views, newest]) is None


def test_what_contradicts_is_not_thin(localizer, mapped_room) -> None:
    located = localizer.locate(mapped_room.features[0], mapped_room.intrinsics)
    assert located.accepted and not is_thin(located, localizer.settings)
    contradicted = replace(located, accepted=False, evidence=replace(located.evidence, support=0.1))
    assert not is_thin(contradicted, localizer.settings)
    thin = replace(contradicted, evidence=replace(located.evidence, inliers=7))
    assert is_thin(thin, localizer.settings)
    assert not is_thin(replace(thin, world_from_cam=None), localizer.settings)
