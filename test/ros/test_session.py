"""The localizer apart from ROS: what it knows about the path when the scene is another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.maps.extend import extend
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.nodes.camera.input import CameraFrame
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.session import LocalizationSession
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.tracking import TrackingState
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.worlds.sequence import RoomSequence


@pytest.fixture(scope="module")
def scenes(drive: RoomSequence, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A scene of five frames with small depth, that scene extended by the others, and one of its
    own.
    """
    small = ReconstructionSettings(dense=DenseSettings(long_side=160))
    network = load_network("tiny")
    frames = [
        Frame(
            drive.images[index],
            int(index),
            drive.intrinsics,
            prior_world_from_cam=drive.world_from_cam[index],
            name=str(index),
        )
        for index in drive.map_indices
    ]
    first = reconstruct(frames[:5], network, small).scene
    extended = extend(first, "first", frames[2:], network).scene
    other = reconstruct(frames[:5], network).scene
    folder = tmp_path_factory.mktemp("scenes")
    return tuple(
        save_scene(scene, folder / name)
        for scene, name in ((first, "first"), (extended, "extended"), (other, "other"))
    )


def test_the_path_goes_on_in_an_extended_scene_and_ends_in_another(
    scenes: tuple[Path, ...], drive: RoomSequence
) -> None:
    session = LocalizationSession(LocalizerParameters(), load_network("tiny"))
    first, extended, other = scenes
    session.use(first)
    query = next(
        int(index)
        for index in drive.query_indices
        if session.localize(seen(drive, int(index), 1), None)[0].is_verified
    )
    before = session.localize(seen(drive, query, 2), None)[1]
    assert before.state is TrackingState.LOCALIZED and before.map_from_cam is not None
    session.use(extended)
    answer, after = session.localize(seen(drive, query, 3), None)
    assert answer.is_verified and after.state is TrackingState.LOCALIZED
    assert after.map_from_cam is not None and before.covariance is not None
    jump = (after.map_from_cam - before.map_from_cam)[:3, 3].numpy()
    covariance = before.covariance[:3, :3].numpy()
    assert jump @ np.linalg.solve(covariance, jump) < 9
    session.use(other)
    assert session.tracker.predicted_map_from_cam(4, None) is None


def test_an_extended_scene_has_depth_in_the_size_it_had(scenes: tuple[Path, ...]) -> None:
    depth = [load_scene(scene).depth for scene in scenes[:2]]
    assert [None if each is None else each.depth.shape[1:] for each in depth] == [(120, 160)] * 2


def seen(drive: RoomSequence, index: int, second: int) -> CameraFrame:
    frame = Frame(drive.images[index], second * 10**9, drive.intrinsics)
    return CameraFrame(frame, "camera", None, "")
