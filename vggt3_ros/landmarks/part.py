"""A part of a map's landmarks: those of some of its keyframes, or in some of its space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Mask
from vggt3_ros.landmarks.landmarks import Landmarks

_MIN_VIEWS = 2  # keyframes that have to see a landmark, as when a map is made


def part(landmarks: Landmarks, keyframes: Mask, wanted: Mask) -> Landmarks:
    """Landmarks of the chosen keyframes (K,), in their order, as far as they are wanted (N,) and
    two of these keyframes see them; positions and covariances stay.

    Raises InputError when a mask has another length.
    """
    expected = (len(landmarks.world_from_cam), len(landmarks))
    if (len(keyframes), len(wanted)) != expected:
        raise InputError(
            f"a part of landmarks is chosen by masks of {expected} keyframes and landmarks, got"
            f" {(len(keyframes), len(wanted))}"
        )
    left = keyframes[landmarks.observed_from] & wanted[landmarks.observed]
    views = np.bincount(landmarks.observed[left], minlength=len(landmarks))
    kept = views >= _MIN_VIEWS
    left &= kept[landmarks.observed]
    number_of_keyframe = np.cumsum(keyframes) - 1
    number_of_landmark = np.cumsum(kept) - 1
    return replace(
        landmarks,
        world_from_cam=landmarks.world_from_cam[keyframes],
        pose_covariance=landmarks.pose_covariance[keyframes],
        intrinsics=landmarks.intrinsics[keyframes],
        keyframe_descriptors=landmarks.keyframe_descriptors[keyframes],
        positions=landmarks.positions[kept],
        covariance_roots=landmarks.covariance_roots[kept],
        descriptors=landmarks.descriptors[kept],
        repeated=landmarks.repeated[kept],
        observed_from=number_of_keyframe[landmarks.observed_from[left]].astype(np.int32),
        observed=number_of_landmark[landmarks.observed[left]].astype(np.int32),
        pixels=landmarks.pixels[left],
    )
