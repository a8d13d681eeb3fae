"""Successors of scenes without what has gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.arrays import Mask
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.sighting import Sighting
from vggt3_ros.maps.refresh import CannotRefreshError, refresh
from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.verification import MapVerdict

from ..landmarks.synthetic import synthetic_landmarks
from .conftest import scene_of

COUNT = 300
THING = np.arange(COUNT) < 60  # the landmarks of a thing
MOST = np.arange(COUNT) >= 120  # ... and of something large


def landmarks() -> Landmarks:
    """Those of the two things are close together, at a distance from the others; the last keyframe
    sees little else than the smaller one.
    """
    made = synthetic_landmarks(points=COUNT)
    positions = made.positions.copy()
    positions[THING] = 0.1 * positions[THING] + [0.0, 0.0, 1.5]
    positions[MOST] = 0.3 * positions[MOST] - [0.0, 0.0, 3.0]
    kept = (made.observed_from < 4) | THING[made.observed] | (made.observed % 50 == 0)
    return replace(
        made,
        positions=positions.astype(np.float32),
        observed_from=made.observed_from[kept],
        observed=made.observed[kept],
        pixels=made.pixels[kept],
    )


@pytest.fixture
def scene() -> Scene:
    return scene_of(landmarks(), 1)


def log_of(scene: Scene, gone: Mask, views: int = 10) -> SceneLog:
    log = SceneLog.of(scene)
    rng = np.random.default_rng(0)
    for number in range(views):
        pose = np.eye(4)
        pose[0, 3] = number
        found = ~gone & (rng.random(COUNT) < 0.8)
        log.add(Sighting.of(pose, np.arange(COUNT), np.full(COUNT, 0.8), found))
    return log


def test_what_has_gone_is_left_out_with_points_and_keyframes(scene: Scene) -> None:
    before = {name: tensor.clone() for name, tensor in scene.landmarks.items()}
    made = refresh(scene, "monday", [log_of(scene, THING)])
    assert np.array_equal(made.gone, THING)
    assert (made.before, made.left, made.views, made.believed) == (COUNT, COUNT - 60, 10, 10)
    assert len(made.scene.landmarks["positions"]) == COUNT - 60
    assert made.keyframes_gone == ("004.png",) and len(made.scene.keyframes) == 4
    assert torch.equal(made.scene.points.points, scene.points.points[60:])
    assert made.scene.is_verified and "60 of an earlier scene have gone" in (
        made.scene.verdict.reason
    )
    assert made.scene.continues(scene.scene_id) and made.scene.scene_id != scene.scene_id
    assert made.scene.parents[0].name == "monday"
    assert any("memory" in sentence for sentence in made.does_not_follow)
    assert all(torch.equal(before[name], scene.landmarks[name]) for name in before)


def test_several_logs_are_taken_together(scene: Scene) -> None:
    short = log_of(scene, THING, views=2)
    with pytest.raises(CannotRefreshError, match="nothing of monday has gone"):
        refresh(scene, "monday", [short])
    assert refresh(scene, "monday", [short, short, short]).views == 6


@pytest.mark.parametrize("views", [0, 10])
def test_nothing_gone_is_said(scene: Scene, views: int) -> None:
    log = log_of(scene, np.zeros(COUNT, dtype=bool), views)
    with pytest.raises(CannotRefreshError, match=f"nothing of monday has gone: {views} of {views}"):
        refresh(scene, "monday", [log])


def test_fewer_than_asked_for_are_left_where_they_are(scene: Scene) -> None:
    with pytest.raises(CannotRefreshError, match="only 60 landmarks"):
        refresh(scene, "monday", [log_of(scene, THING)], least=61)


def test_a_map_is_never_erased(scene: Scene) -> None:
    log = log_of(scene, MOST)
    with pytest.raises(CannotRefreshError, match="another place, or one to be mapped again"):
        refresh(scene, "monday", [log])


def test_logs_and_scenes_that_do_not_fit_are_refused(scene: Scene) -> None:
    log = log_of(scene, THING)
    with pytest.raises(InputError, match="log 1 is a log of scene"):
        refresh(scene_of(landmarks(), 2), "monday", [log])
    unverified = replace(scene, verdict=MapVerdict(False, "too little texture"))
    with pytest.raises(SceneError, match="too little texture"):
        refresh(unverified, "monday", [log])
