from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks import locate
from vggt3_ros.landmarks.acceptance import Evidence, objection
from vggt3_ros.landmarks.features import Features, extract, unit_vectors
from vggt3_ros.landmarks.locate import LandmarkLocalizer, Located, LocateSettings
from vggt3_ros.landmarks.matching import match

from .map_of_room import map_of_room, room_features
from .older_opencv import older_opencv


def errors(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Metres and degrees."""
    turn = rotation_angle(torch.from_numpy(estimate[:3, :3].T @ truth[:3, :3])).item()
    return float(np.linalg.norm(estimate[:3, 3] - truth[:3, 3])), float(np.degrees(turn))


# Twelve frames over six metres: sparser than a map whose every query shows what the default asks
# for. Things that the map saw from another side alone hide half of what it expects in some.
LENIENT = LocateSettings(min_support=0.2, min_agreement=0.05)


@pytest.fixture(scope="module")
def localizer(mapped_room):
    return LandmarkLocalizer(mapped_room.landmarks, LENIENT)


def test_queries_are_found_within_centimetres(mapped_room, localizer):
    found = []
    for query in mapped_room.room.query_indices:
        located = localizer.locate(mapped_room.features[query], mapped_room.intrinsics)
        if located.accepted:
            found.append(errors(located.world_from_cam, mapped_room.poses[query]))
            assert located.source == "descriptor"
            assert located.inliers >= 12 and located.cells >= 6 and 0.1 <= located.support <= 1
            assert np.linalg.eigvalsh(located.covariance).min() > 0
            assert set(located.seconds) >= {"retrieval", "matching", "pnp", "guided", "total"}
            assert (
                len(np.unique(located.features))
                == len(np.unique(located.landmarks))
                == len(located.features)
            )
    assert len(found) >= 0.8 * len(mapped_room.room.query_indices)
    assert np.max(found, 0)[0] < 0.05 and np.max(found, 0)[1] < 1.0
    assert np.median(found, 0)[0] < 0.02


def test_another_room_is_refused_with_the_figures(mapped_room, other_room, localizer):
    for features in other_room.features:
        located = localizer.locate(features, other_room.intrinsics)
        assert not located.accepted
        assert located.reason and any(letter.isdigit() for letter in located.reason)


def test_images_that_show_nothing_are_refused(mapped_room, localizer):
    black = np.zeros((240, 320, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, black.shape).astype(np.uint8)
    for image in (black, noise):
        assert not localizer.locate(extract(image), mapped_room.intrinsics).accepted
    one = Features(np.array([[5.0, 5.0]], np.float32), np.full((1, 128), 40, np.uint8), (320, 240))
    assert not localizer.locate(one, mapped_room.intrinsics).accepted


def test_half_of_an_image_is_enough_where_it_shows_enough(mapped_room, localizer):
    accepted = 0
    for query in mapped_room.room.query_indices:
        image = mapped_room.room.images[query].copy()
        image[:, :160] = 0
        located = localizer.locate(extract(image), mapped_room.intrinsics)
        accepted += located.accepted
        if located.accepted:
            assert errors(located.world_from_cam, mapped_room.poses[query])[0] < 0.1
    assert accepted >= 0.5 * len(mapped_room.room.query_indices)


def test_little_support_is_enough_where_the_image_agrees(mapped_room):
    query = mapped_room.room.query_indices[0]
    default = LandmarkLocalizer(mapped_room.landmarks)
    located = default.locate(mapped_room.features[query], mapped_room.intrinsics)
    assert located.support < 0.4 and located.evidence.agreement > 0.6 and located.accepted
    assert errors(located.world_from_cam, mapped_room.poses[query])[0] < 0.05
    assert default.verify(
        mapped_room.features[query], mapped_room.intrinsics, mapped_room.poses[query]
    ).accepted


@pytest.mark.parametrize("left", [True, False])
def test_what_half_of_the_image_contradicts_is_refused_though_the_other_half_has_depth(
    mapped_room, other_room, left
):
    """As where another place holds an exact copy of a corner of this one, things before it and
    all.
    """
    default = LandmarkLocalizer(mapped_room.landmarks)
    fooled = 0
    for number, query in enumerate(mapped_room.room.query_indices):
        mine, other = mapped_room.features[query], other_room.features[number]
        copied, rest = (mine.pixels[:, 0] < 160) == left, (other.pixels[:, 0] < 160) != left
        mixed = Features(
            np.concatenate([mine.pixels[copied], other.pixels[rest]]),
            np.concatenate([mine.descriptors[copied], other.descriptors[rest]]),
            mine.size_wh,
        )
        located = default.locate(mixed, mapped_room.intrinsics)
        assert not located.accepted
        assert not default.verify(mixed, mapped_room.intrinsics, mapped_room.poses[query]).accepted
        evidence = located.evidence
        if (
            evidence.inliers >= 12
            and evidence.cells >= 6
            and (evidence.has_depth or evidence.support >= 0.4)
        ):
            assert (
                "of what the map expects there" in located.reason or "support is" in located.reason
            )
            fooled += 1
    assert fooled >= 2, "inliers, support and depth alone would have accepted some"


GOOD = Evidence(
    inliers=40, cells=12, support=0.6, agreement=0.9, compared=20, off_plane=20, off_plane_cells=8
)
FLAT = {"off_plane": 2, "off_plane_cells": 2}


@pytest.mark.parametrize(
    ("shown", "against"),
    [
        ({}, None),
        ({"inliers": 11}, "only 11 landmarks"),
        ({"cells": 5}, "lie in 5 cells"),
        (
            {"inliers": 15, "compared": 2},
            "only 15 landmarks agree with the best pose, 16 are needed",
        ),
        ({"inliers": 16, "compared": 2}, None),
        (
            {"inliers": 23, "compared": 2, **FLAT},
            "only 23 landmarks agree with the best pose, 24 are needed",
        ),
        ({"agreement": 0.34}, "shows only 0.34 of what the map expects there and 0.35 is needed"),
        ({"support": 0.31, "agreement": 0.35}, None),
        ({"support": 0.45, "agreement": 0.65, **FLAT}, "support is 0.45 and 0.50 is needed"),
        ({"support": 0.2, "agreement": 0.5}, None),
        ({"support": 0.2, "agreement": 0.4}, "support is 0.20 and 0.25 is needed"),
        ({"support": 0.2, "agreement": 0.8, **FLAT}, "support is 0.20 and 0.35 is needed"),
        ({"support": 0.2, "agreement": 0.96, **FLAT}, None),
        ({"support": 0.09, "agreement": 1.0}, "support is 0.09 and 0.10 is needed"),
        ({"support": 0.39, "agreement": 1.0, "compared": 2}, "support is 0.39 and 0.40 is needed"),
        ({"repeated": 0.49}, None),
        ({"repeated": 0.5}, "has seen copies of 50% elsewhere"),
        ({"support": 0.5, "agreement": 0.7, "inliers": 23, **FLAT}, "and 0.51 is needed"),
        ({"support": 0.5, "agreement": 0.7, "inliers": 35, **FLAT}, None),
        ({"agreement": 0.96, "repeated": 0.09, **FLAT}, None),
        (
            {"agreement": 0.96, "repeated": 0.1, **FLAT},
            "which lie in one plane, the map has seen copies of 10% elsewhere: a thing",
        ),
        ({"unlike": 1.0}, None),
        ({"unlike": 1.0, "support": 0.34}, "0.35 is needed where colours differ by 1.00 times"),
        ({"unlike": 1.0, "support": 0.34, "compared": 2}, "0.40 is needed: much of the image"),
        ({"unlike": 1.0, "support": 0.2, **FLAT}, "0.25 is needed: much of the image"),
        ({"unlike": 0.8, "support": 0.26}, None),
        ({"unlike": 0.5, "support": 0.1}, None),
        ({"unlike": 1.01}, "other colours than the map has there, by 1.01 times what it allows"),
    ],
)
def test_evidence_suffices_or_the_objection_tells_what_is_missing(shown, against):
    reason = objection(replace(GOOD, **shown), LocateSettings())
    assert reason is None if against is None else against in reason


def test_every_limit_of_the_evidence_has_an_effect():
    doubtful = replace(GOOD, support=0.3, agreement=0.6)
    assert objection(doubtful, LocateSettings()) is None
    assert objection(doubtful, LocateSettings(min_agreement=0.7)) is not None
    assert objection(doubtful, LocateSettings(little_support=0.35)) is not None
    assert objection(replace(doubtful, compared=0), LocateSettings()) is not None
    assert objection(replace(doubtful, compared=0), LocateSettings(min_support=0.3)) is None


def test_matching_finds_each_others_nearest_whose_second_is_clearly_farther(mapped_room):
    query = mapped_room.features[mapped_room.room.query_indices[1]].descriptors
    target = mapped_room.landmarks.descriptors
    alike = unit_vectors(query) @ unit_vectors(target).T
    second, first = np.sort(alike, axis=1)[:, -2:].T
    nearest = alike.argmax(1)
    rows = np.arange(len(query))
    chosen = ((1 - first) < 0.8**2 * (1 - second)) & (alike.argmax(0)[nearest] == rows)
    assert chosen.sum() > 50
    np.testing.assert_array_equal(
        match(query, target), np.stack([rows[chosen], nearest[chosen]], axis=1)
    )


def test_the_last_pose_is_searched_first_and_nonsense_falls_back(mapped_room, localizer):
    query = mapped_room.room.query_indices[0]
    near = mapped_room.poses[query].copy()
    near[:3, 3] += 0.2
    features = mapped_room.features[query]
    proposals = {"last": near, "network": near}
    assert localizer.locate(features, mapped_room.intrinsics, proposals).source == "last"
    for nonsense in (np.full((4, 4), np.nan), np.diag([1.0, 1, 1, 1]) + 1e6 * np.eye(4, k=3)):
        located = localizer.locate(features, mapped_room.intrinsics, {"last": nonsense})
        assert located.accepted and located.source == "descriptor"


def test_the_network_helps_where_looks_fail(mapped_room, monkeypatch):
    """With one keyframe per source, proposals decide."""
    monkeypatch.setattr(locate, "_KEYFRAMES", 1)
    shuffled = LandmarkLocalizer(mapped_room.landmarks, LENIENT)
    shuffled._looks[:] = -shuffled._looks  # the least similar keyframe comes first
    query = mapped_room.room.query_indices[0]
    located = shuffled.locate(
        mapped_room.features[query], mapped_room.intrinsics, {"network": mapped_room.poses[query]}
    )
    assert located.accepted and located.source == "network"


def test_verify_confirms_true_poses_and_leaves_them_alone(mapped_room, localizer):
    confirmed = 0
    for query in mapped_room.room.query_indices:
        truth, features = mapped_room.poses[query], mapped_room.features[query]
        located = localizer.verify(features, mapped_room.intrinsics, truth)
        confirmed += located.accepted
        assert located.source == "given" and np.linalg.eigvalsh(located.covariance).min() > 0
        np.testing.assert_array_equal(located.world_from_cam, truth)
        wrong = truth.copy()
        wrong[:3, 3] += [0.5, -0.5, 0.2]
        assert not localizer.verify(features, mapped_room.intrinsics, wrong).accepted
        assert not localizer.verify(
            features, mapped_room.intrinsics, np.full((4, 4), np.nan)
        ).accepted
    assert confirmed >= 0.8 * len(mapped_room.room.query_indices)


def test_the_covariance_of_a_verified_pose_contains_its_distance_from_the_best_one(
    mapped_room, localizer
):
    query = mapped_room.room.query_indices[0]
    aside = mapped_room.poses[query].copy()
    aside[:3, 3] += [0.0, 0.0, 0.02]
    located = localizer.verify(mapped_room.features[query], mapped_room.intrinsics, aside)
    assert located.accepted
    assert (
        0.01 < np.sqrt(located.covariance[2, 2]) < 0.04
        and located.covariance[0, 0] < located.covariance[2, 2]
    )


def test_errors_are_as_large_as_the_covariance_says(mapped_room):
    """Features that are off by half a pixel (rendered ones are not) give errors that follow
    chi-square of 6 degrees.
    """
    localizer = LandmarkLocalizer(replace(mapped_room.landmarks, noise_px=0.5), LENIENT)
    rng = np.random.default_rng(0)
    squares = []
    for query in np.repeat(mapped_room.room.query_indices, 4):
        features = mapped_room.features[query]
        noise = rng.normal(size=features.pixels.shape).astype(np.float32) * 0.5
        located = localizer.locate(
            replace(features, pixels=features.pixels + noise), mapped_room.intrinsics
        )
        if located.accepted:
            squares.append(normalised_square(located, mapped_room.poses[query]))
    assert 5.35 / 2 < np.median(squares) < 2 * 5.35
    assert np.mean(np.array(squares) < 12.59) > 0.85


@pytest.mark.parametrize("mapped_by", ["the same", "another"])
def test_the_covariance_holds_with_an_older_opencv(mapped_room, mapped_by):
    """Also in a map that a newer one has made. With positions as the older one gives them, the
    median is 9 to 86.
    """
    with older_opencv():
        features = room_features(mapped_room.room)
    landmarks = (
        mapped_room.landmarks if mapped_by == "another" else map_of_room(mapped_room.room, features)
    )
    localizer = LandmarkLocalizer(landmarks, LENIENT)
    squares = []
    for query in mapped_room.room.query_indices:
        located = localizer.locate(features[query], mapped_room.intrinsics)
        if located.accepted:
            squares.append(normalised_square(located, mapped_room.poses[query]))
    assert len(squares) > 4 and np.median(squares) < 4


def normalised_square(located: Located, truth: np.ndarray) -> float:
    """Squared error of a pose in units of its covariance."""
    pose = located.world_from_cam
    turn = pose[:3, :3].T @ truth[:3, :3]
    skew = 0.5 * (turn - turn.T)
    error = np.concatenate([truth[:3, 3] - pose[:3, 3], [skew[2, 1], skew[0, 2], skew[1, 0]]])
    return float(error @ np.linalg.solve(located.covariance, error))


def test_the_uncertainty_of_keyframes_is_added(mapped_room):
    query = mapped_room.room.query_indices[0]
    two_centimetres = np.tile(np.diag([4e-4] * 3 + [1e-8] * 3).astype(np.float32), (12, 1, 1))
    vague = replace(mapped_room.landmarks, pose_covariance=two_centimetres)
    located = LandmarkLocalizer(vague, LENIENT).locate(
        mapped_room.features[query], mapped_room.intrinsics
    )
    assert 0.02**2 <= located.covariance[0, 0] < 0.03**2


def test_scale_and_frame_of_the_map_do_not_matter(mapped_room, localizer):
    """A map in other units accepts the same images, in its own frame."""
    moved = Sim3(
        7.0,
        torch.linalg.qr(torch.eye(3).double().roll(1, 0)).Q,
        torch.tensor([3.0, 1.0, -2.0]).double(),
    )
    rotation = moved.rotation * torch.linalg.det(moved.rotation)
    moved = Sim3(7.0, rotation, moved.translation)
    elsewhere = LandmarkLocalizer(mapped_room.landmarks.transformed(moved), LENIENT)
    for query in mapped_room.room.query_indices[:3]:
        here = localizer.locate(mapped_room.features[query], mapped_room.intrinsics)
        there = elsewhere.locate(mapped_room.features[query], mapped_room.intrinsics)
        assert here.accepted == there.accepted
        expected = moved.poses(torch.from_numpy(here.world_from_cam)).numpy()
        np.testing.assert_allclose(there.world_from_cam, expected, atol=0.02)


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"min_inliers": 0},
        {"min_support": 1.5},
        {"little_support": -0.1},
        {"min_agreement": 2.0},
    ):
        with pytest.raises(InputError, match="out of range"):
            LocateSettings(**wrong)
