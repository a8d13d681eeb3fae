"""Landmarks of which a keyframe sees a copy elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from vggt3_ros.landmarks.fit import Fit, Given
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.repeats import repeated
from vggt3_ros.landmarks.tracks import build_tracks

from .conftest import MappedRoom


def with_a_copy(mapped_room: MappedRoom) -> tuple[Fit, np.ndarray]:
    """The map's keyframes, and one turned away by 180 degrees that sees what the first does; its
    landmarks.
    """
    landmarks, indices = mapped_room.landmarks, mapped_room.room.map_indices
    poses = landmarks.world_from_cam
    turned = poses[0] @ np.diag([-1.0, 1.0, -1.0, 1.0])
    features = [mapped_room.features[i] for i in [*indices, indices[0]]]
    cameras = np.repeat(mapped_room.intrinsics[None], len(features), axis=0)
    tracks = build_tracks([len(one) for one in features], {})
    every = np.ones(len(features), dtype=bool)
    given = Given(
        features, tracks, np.concatenate([poses, turned[None]]), every, cameras, LandmarkSettings()
    )
    seen = np.zeros((len(features), len(landmarks)), dtype=bool)
    seen[landmarks.observed_from, landmarks.observed] = True
    return Fit(given, given.world_from_cam), seen


@pytest.mark.parametrize(("held", "contradicted"), [(True, True), (False, False), (False, True)])
def test_what_a_keyframe_sees_a_copy_of_repeats(
    mapped_room: MappedRoom, held: bool, contradicted: bool
) -> None:
    fit, seen = with_a_copy(mapped_room)
    landmarks = mapped_room.landmarks
    fit.held, fit.contradicted[-1] = held, contradicted
    copied = repeated(fit, landmarks.positions.astype(np.float64), landmarks.descriptors, seen)
    assert copied[~seen[0]].mean() < 0.05
    if contradicted and not held:
        assert copied[seen[0]].mean() < 0.05, (
            "that pose is not believed: no copy, but the thing itself"
        )
    else:
        assert copied[seen[0]].mean() > 0.9
