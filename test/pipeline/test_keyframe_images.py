"""Images of keyframes come with the cameras that took them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.pipeline.keyframe_images import KeyframeImages, image_intrinsics
from vggt3_ros.scene.verification import MapVerdict

from .dotted import LANDMARK, dotted_scene, middle_of_dot


@pytest.mark.parametrize("calibrated", [True, False])
def test_landmarks_are_where_the_images_show_them(calibrated: bool) -> None:
    scene = dotted_scene(calibrated)
    shown = KeyframeImages.of(scene)
    assert shown.rows == (0, 1, 2, 3)  # the last keyframe observes nothing
    point = Landmarks.from_tensors(scene.landmarks).positions[LANDMARK]
    for row in range(4):
        seen = transform_points(
            se3_inverse(shown.world_from_cam[row]), torch.from_numpy(point)[None].double()
        )
        expected = middle_of_dot(shown.images[row, 0].double().numpy())
        pixel = project(seen, shown.intrinsics[row])[0][0].numpy()
        assert np.abs(pixel - expected).max() < 0.15


@pytest.mark.parametrize("calibrated", [True, False])
def test_landmarks_are_observed_in_the_pixels_of_the_images(calibrated: bool) -> None:
    scene = dotted_scene(calibrated)
    shown = KeyframeImages.of(scene)
    landmarks = shown.landmarks(scene)
    whole = Landmarks.from_tensors(scene.landmarks)
    scale = landmarks.intrinsics[0, 0, 0] / whole.intrinsics[0, 0, 0]
    assert len(landmarks) > 50
    assert (landmarks.pixels > -0.5).all() and (landmarks.pixels < [167.5, 125.5]).all()
    assert np.bincount(landmarks.observed).min() >= 2
    for row in range(4):
        mine = landmarks.observed_from == row
        points = torch.from_numpy(landmarks.positions[landmarks.observed[mine]]).double()
        seen = transform_points(se3_inverse(shown.world_from_cam[row]), points)
        pixels = project(seen, shown.intrinsics[row])[0].numpy()
        errors = np.linalg.norm(pixels - landmarks.pixels[mine], axis=1)
        assert np.median(errors) < 2 * scale * whole.noise_px


def test_of_keyframes_with_and_without_a_calibration_each_has_its_own_camera() -> None:
    """As in merged maps."""
    calibrated, predicted = dotted_scene(True), dotted_scene(False)
    mixed = calibrated.keyframes.intrinsics.clone()
    mixed[1] = predicted.keyframes.intrinsics[1]
    scene = replace(calibrated, keyframes=replace(calibrated.keyframes, intrinsics=mixed))
    found = image_intrinsics(scene)
    torch.testing.assert_close(found[1], image_intrinsics(predicted)[1])
    torch.testing.assert_close(found[[0, 2]], image_intrinsics(calibrated)[[0, 2]])


def test_names_of_files_differ_and_tell_the_keyframe() -> None:
    names = KeyframeImages.of(dotted_scene()).file_names
    assert names == ("00000_a.png", "00001_b.png", "00002_c.png", "00003_c.png")


def test_without_landmarks_every_keyframe_is_shown_as_the_network_has_it() -> None:
    scene = replace(dotted_scene(), landmarks={}, verdict=MapVerdict(False, "no landmarks"))
    shown = KeyframeImages.of(scene)
    assert shown.rows == (0, 1, 2, 3, 4) and shown.file_names[4] == "00004.png"
    assert torch.equal(image_intrinsics(scene), scene.keyframes.intrinsics)


def test_a_scene_without_images_says_how_to_get_them() -> None:
    with pytest.raises(SceneError, match="no images of its keyframes; .* --keep-images"):
        KeyframeImages.of(replace(dotted_scene(), images=None))
