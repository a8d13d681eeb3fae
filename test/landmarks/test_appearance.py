"""An image beside the coloured surfaces of a map, those of a room as it really is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.landmarks.appearance import Appearance, usual_difference
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.locate import LandmarkLocalizer, LocateSettings
from vggt3_ros.landmarks.picture import Picture

SIZE_WH = (320, 240)
ALLOWED = 0.27
FLAT = 0.17
LENIENT = LocateSettings(min_support=0.1, min_agreement=0.0)


@pytest.fixture(scope="module")
def surfaces(mapped_room):
    """Points (N, 3) and colours (N, 3) of every fourth pixel of the map frames."""
    room = mapped_room.room
    row, column = (each.ravel() for each in np.mgrid[0:240:2, 0:320:2])
    k = mapped_room.intrinsics
    points, colours = [], []
    for index in room.map_indices:
        z = room.depth[index][row, column].astype(np.float64)
        rays = np.stack([(column - k[0, 2]) / k[0, 0], (row - k[1, 2]) / k[1, 1], np.ones(len(z))])
        pose = mapped_room.poses[index]
        points.append((rays * z).T @ pose[:3, :3].T + pose[:3, 3])
        colours.append(room.images[index][row, column])
    return np.concatenate(points), np.concatenate(colours)


@pytest.fixture(scope="module")
def appearance(surfaces):
    return Appearance(*surfaces)


def shown(
    appearance, mapped_room, query, image, moved=(0.0, 0.0, 0.0), columns=(0, 320), believed=True
):
    """The difference of an image at the pose of a query, moved by so much, where all features of
    its own between two columns are taken for inliers.
    """
    pose = mapped_room.poses[query].copy()
    pose[:3, 3] += moved
    pixels = mapped_room.features[query].pixels
    pixels = pixels[(pixels[:, 0] >= columns[0]) & (pixels[:, 0] < columns[1])]
    return appearance.difference(pose, mapped_room.intrinsics, Picture.of(image), pixels, believed)


def test_images_of_the_place_differ_little_and_others_much(mapped_room, other_room, appearance):
    for number, query in enumerate(mapped_room.room.query_indices):
        own = shown(appearance, mapped_room, query, mapped_room.room.images[query])
        assert own < 0.5 * ALLOWED
        other_image = other_room.room.images[number]
        other = shown(appearance, mapped_room, query, other_image, believed=False)
        assert other > 1.2 * ALLOWED


@pytest.mark.parametrize("left", [True, False])
def test_half_another_place_differs_as_much(mapped_room, other_room, appearance, left):
    half = slice(160) if left else slice(160, None)
    own = (160, 320) if left else (0, 160)
    for number, query in enumerate(mapped_room.room.query_indices):
        image = mapped_room.room.images[query].copy()
        image[:, half] = other_room.room.images[number][:, half]
        assert shown(appearance, mapped_room, query, image, columns=own) > ALLOWED


def test_light_covers_and_darkness_do_not_differ(mapped_room, appearance):
    rng = np.random.default_rng(0)
    for query in mapped_room.room.query_indices:
        image = mapped_room.room.images[query]
        warm = (image * [0.9, 0.75, 0.5]).astype(np.uint8)
        dark = (image / 12 + rng.normal(0, 1, image.shape)).clip(0, 255).astype(np.uint8)
        covered = image.copy()
        covered[:, :160] = (70, 60, 50)
        assert shown(appearance, mapped_room, query, warm) < ALLOWED
        assert shown(appearance, mapped_room, query, dark) < ALLOWED
        assert shown(appearance, mapped_room, query, covered, columns=(160, 320)) < ALLOWED


def test_a_camera_without_colours_is_compared_in_grey(
    mapped_room, other_room, appearance, surfaces
):
    def grey(colours):
        return colours.mean(axis=-1, keepdims=True).repeat(3, axis=-1).astype(np.uint8)

    without = Appearance(surfaces[0], grey(surfaces[1]))
    for number, query in enumerate(mapped_room.room.query_indices):
        image = mapped_room.room.images[query]
        other = other_room.room.images[number]
        assert shown(appearance, mapped_room, query, grey(image)) < 0.5 * ALLOWED
        assert shown(without, mapped_room, query, image) < 0.5 * ALLOWED
        assert shown(appearance, mapped_room, query, grey(other), believed=False) > ALLOWED


def test_what_nothing_is_known_of_says_nothing(mapped_room, appearance, surfaces):
    query = mapped_room.room.query_indices[0]
    image = mapped_room.room.images[query]
    assert shown(appearance, mapped_room, query, image, moved=(1e4, 0.0, 0.0)) is None
    assert shown(appearance, mapped_room, query, np.full_like(image, 80)) is None
    nothing = Appearance(surfaces[0][:0], surfaces[1][:0])
    assert shown(nothing, mapped_room, query, image) is None
    where = (mapped_room.poses[query], mapped_room.intrinsics, Picture.of(image))
    assert appearance.difference(*where, np.zeros((0, 2))) is None
    assert appearance.unlike(*where, np.zeros((0, 2)), have_depth=True) == 0.0


def test_a_map_far_from_the_origin_looks_the_same(mapped_room, appearance, surfaces):
    query = mapped_room.room.query_indices[0]
    image = mapped_room.room.images[query]
    far = np.array([3e6, -4e6, 100.0])
    there = shown(Appearance(surfaces[0] + far, surfaces[1]), mapped_room, query, image, far)
    assert there == pytest.approx(shown(appearance, mapped_room, query, image), rel=1e-3)


def test_beside_few_inliers_in_a_plane_less_is_allowed(mapped_room, other_room, appearance):
    """Cells with inliers are believed where these have depth."""
    query = mapped_room.room.query_indices[0]
    pixels = mapped_room.features[query].pixels
    where = (mapped_room.poses[query], mapped_room.intrinsics)
    picture = Picture.of(mapped_room.room.images[query])
    believed = appearance.difference(*where, picture, pixels)
    doubted = appearance.difference(*where, picture, pixels, believed=False)
    assert believed < doubted
    deep = appearance.unlike(*where, picture, pixels, have_depth=True)
    flat = appearance.unlike(*where, picture, pixels, have_depth=False)
    assert deep == pytest.approx(believed / ALLOWED)
    assert flat == pytest.approx(doubted / FLAT)


def test_what_its_own_images_show_is_allowed_and_more(mapped_room, appearance, surfaces):
    pictures = [
        Picture.of(mapped_room.room.images[index]) for index in mapped_room.room.map_indices
    ]
    usual = usual_difference(appearance, mapped_room.landmarks, pictures)
    assert 0 < usual < 0.4 * ALLOWED
    query = mapped_room.room.query_indices[0]
    pixels = mapped_room.features[query].pixels
    where = (mapped_room.poses[query], mapped_room.intrinsics)
    picture = Picture.of(mapped_room.room.images[query])
    found = appearance.difference(*where, picture, pixels)
    tolerant = Appearance(*surfaces, usual=0.2)
    assert tolerant.unlike(*where, picture, pixels, have_depth=True) == pytest.approx(found / 0.5)
    nowhere = replace(
        mapped_room.landmarks, world_from_cam=mapped_room.landmarks.world_from_cam + 1e4
    )
    assert usual_difference(appearance, nowhere, pictures) is None


def test_a_localizer_refuses_colours_that_the_map_has_not(mapped_room, other_room, appearance):
    """Features of another place may be few beside a wall: here they are taken out, so that colours
    alone contradict.
    """
    without = LandmarkLocalizer(mapped_room.landmarks, LENIENT)
    with_colours = LandmarkLocalizer(mapped_room.landmarks, LENIENT, appearance=appearance)
    fooled = 0
    for number, query in enumerate(mapped_room.room.query_indices):
        own = mapped_room.features[query]
        assert (
            with_colours.locate(own, mapped_room.intrinsics).accepted
            == without.locate(own, mapped_room.intrinsics).accepted
        )
        image = mapped_room.room.images[query].copy()
        image[:, 160:] = other_room.room.images[number][:, 160:]
        kept = own.pixels[:, 0] < 160
        half = Features(own.pixels[kept], own.descriptors[kept], SIZE_WH, picture=Picture.of(image))
        if without.locate(half, mapped_room.intrinsics).accepted:
            fooled += 1
            refused = with_colours.locate(half, mapped_room.intrinsics)
            assert not refused.accepted and "other colours than the map" in refused.reason
            assert refused.evidence.unlike > 1
            pose = mapped_room.poses[query]
            assert not with_colours.verify(half, mapped_room.intrinsics, pose).accepted
    assert fooled >= 2


def test_lens_distortion_is_undone_in_a_picture(mapped_room):
    """An image that a lens distorts has the picture of the one before it."""
    image = mapped_room.room.images[0]
    k = mapped_room.intrinsics
    distortion = Distortion("plumb_bob", (-0.25, 0.08, 0.001, -0.001, 0.0))
    column, row = np.meshgrid(np.arange(320.0), np.arange(240.0))
    pixels = np.stack([column.ravel(), row.ravel()], axis=1).reshape(-1, 1, 2)
    straight = cv2.undistortPoints(pixels, k, np.array(distortion.coefficients), P=k)
    maps = straight.reshape(240, 320, 2).astype(np.float32)
    distorted = cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
    before = Picture.of(image)
    undone = Picture.of(distorted, k, distortion)
    left = Picture.of(distorted)
    inner = (slice(3, -3), slice(3, -3))
    off = np.abs(undone.colours[inner] - before.colours[inner]).mean()
    assert off < 0.6 * np.abs(left.colours[inner] - before.colours[inner]).mean()


def test_a_picture_tells_what_shows_nothing():
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    image[:, :160] = 200
    picture = Picture.of(image)
    assert picture.size_wh == SIZE_WH
    assert picture.colours.shape == (24, 32, 3) and picture.shows.shape == (24, 32)
    assert not picture.shows[:, :16].any() and picture.shows[:, 16:].all()
    assert picture.colours[:, :16] == pytest.approx(200, abs=0.01)
    narrow = Picture.of(image[:, :100])
    assert narrow.colours.shape == (32, 14, 3)
