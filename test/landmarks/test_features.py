"""Local features: where they lie, with and without lens distortion."""

from __future__ import annotations

from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.landmarks.features import Features, FeatureSettings, _detector, extract, unit_vectors
from vggt3_ros.landmarks.matching import match

from .older_opencv import older_opencv, upscales_precisely

CAMERA = np.array([[300.0, 0, 200], [0, 300, 150], [0, 0, 1]])


def blobs(places: np.ndarray, size: tuple[int, int] = (400, 300)) -> np.ndarray:
    """An image of soft bright spots, whose SIFT features lie at their centres."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 5.0**2)) for px, py in places)
    return np.repeat(np.clip(100 + 120 * image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def distance_to(features: Features, places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(features.pixels[:, None] - places[None], axis=2).min(0)


PLACES = np.array([[60.0, 50], [330.25, 60.5], [200.5, 150.25], [70.75, 240], [340, 245.5]])


@pytest.mark.parametrize("opencv", [nullcontext, older_opencv], ids=["installed", "older"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_positions_are_those_of_the_whole_image_at_any_scale(scale: float, opencv: type) -> None:
    settings = FeatureSettings(scale=scale, least_side=100)
    with opencv():
        features = extract(blobs(PLACES), settings=settings)
    assert features.size_wh == (400, 300) and features.pixel_size == 1 / scale
    assert distance_to(features, PLACES).max() < 0.2


@pytest.mark.skipif(not upscales_precisely(), reason="needs OpenCV 4.8, beside which to measure")
def test_an_older_opencv_finds_the_same_places_in_every_octave(
    room_images: list[np.ndarray],
) -> None:
    off: dict[int, list[np.ndarray]] = {}
    for image in room_images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        newer, descriptors = _detector(FeatureSettings())[0].detectAndCompute(grey, None)
        with older_opencv():
            detector, offset = _detector(FeatureSettings())
            older, others = detector.detectAndCompute(grey, None)
        for one, other in match(descriptors, others):
            move = np.subtract(older[other].pt, newer[one].pt) - offset
            if np.abs(move).max() < 1:
                off.setdefault(newer[one].octave & 0xFF, []).append(move)  # 255 is the one before 0
    assert {255, 0, 1} <= off.keys()
    for octave, moves in off.items():
        if len(moves) > 20:
            assert np.abs(np.median(moves, axis=0)).max() < 0.03, octave


def test_small_images_are_searched_as_they_are() -> None:
    assert (
        extract(blobs(PLACES), settings=FeatureSettings(scale=0.5, least_side=400)).pixel_size
        == 1.0
    )


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion("plumb_bob", (-0.2, 0.03, 0.001, -0.001)),
        Distortion("equidistant", (-0.02, 0.01, 0.0, 0.0)),
    ],
    ids=["plumb_bob", "equidistant"],
)
def test_lens_distortion_is_undone(distortion: Distortion) -> None:
    rays = np.concatenate([(PLACES - CAMERA[:2, 2]) / 300, np.ones((5, 1))], axis=1).reshape(
        -1, 1, 3
    )
    coefficients, still = np.array(distortion.coefficients), np.zeros(3)
    if distortion.model == "equidistant":
        seen = cv2.fisheye.projectPoints(rays, still, still, CAMERA, coefficients)[0]
    else:
        seen = cv2.projectPoints(rays, still, still, CAMERA, coefficients)[0]
    image = blobs(seen.reshape(-1, 2))
    settings = FeatureSettings(scale=1.0)
    assert distance_to(extract(image, CAMERA, distortion, settings), PLACES).max() < 0.2
    assert distance_to(extract(image, CAMERA, None, settings), PLACES).max() > 1


def test_the_strongest_features_are_kept(room_images: list[np.ndarray]) -> None:
    image = room_images[0]
    assert len(extract(image, settings=FeatureSettings(count=50))) == 50
    assert len(extract(image)) > 200


def test_descriptors_find_their_own_again(room_images: list[np.ndarray]) -> None:
    features = extract(room_images[0])
    vectors = unit_vectors(features.descriptors)
    assert features.descriptors.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    shifted = np.roll(room_images[0], (4, 6), axis=(0, 1))
    other = extract(shifted)
    pairs = match(features.descriptors, other.descriptors)
    off = other.pixels[pairs[:, 1]] - features.pixels[pairs[:, 0]] - (6, 4)
    assert len(pairs) > 100 and np.mean(np.abs(off).max(1) < 1.5) > 0.95


def test_features_are_found_in_a_tenth_of_the_light(room_images: list[np.ndarray]) -> None:
    image = room_images[0]
    dim = (image * 0.1).astype(np.uint8)
    bright, found = extract(image), extract(dim)
    assert len(found) > 0.5 * len(bright)
    pairs = match(found.descriptors, bright.descriptors)
    off = np.linalg.norm(found.pixels[pairs[:, 0]] - bright.pixels[pairs[:, 1]], axis=1)
    assert (off < 1).sum() > 0.3 * len(bright)


def test_the_dark_has_no_features() -> None:
    for level in (0, 1):
        assert len(extract(np.full((120, 160, 3), level, np.uint8))) == 0


def test_an_empty_image_has_no_features() -> None:
    features = extract(np.full((240, 320, 3), 90, np.uint8))
    assert len(features) == 0 and features.descriptors.shape == (0, 128)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(InputError, match="out of range"):
        FeatureSettings(scale=0)
