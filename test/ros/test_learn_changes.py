"""A localizer that learns of changes: its log, and the successor that it makes and goes on in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.geometry.arrays import Mask
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.sighting import Sighting
from vggt3_ros.landmarks.visibility import Visibility
from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.msg import LocalizationStatus as Status
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene

from ..patience import PATIENCE_S
from .localizer_client import MAPPED, LocalizerClient, scene, visit
from .processes import wait_for

SHOWN = MAPPED[:4]
THING = 80  # landmarks of what has gone


def unseen(landmarks: Landmarks) -> Mask:
    """Landmarks of a thing that the images to be shown do not show, nor what is around it."""
    room = visit()
    visibility = Visibility(landmarks)
    height, width = room.images.shape[1:3]
    shown = np.zeros(len(landmarks), dtype=bool)
    for index in SHOWN:
        pose = room.world_from_cam[index].numpy()
        expected = visibility.expected(pose, room.intrinsics.numpy(), (width, height))
        shown[expected.landmarks] = True
    distances, around = cKDTree(landmarks.positions).query(landmarks.positions, THING)
    distances[shown[around].any(1), -1] = np.inf
    middle = distances[:, -1].argmin()
    assert distances[middle, -1] < np.inf
    return np.isin(np.arange(len(landmarks)), around[middle])


def log_of_changes(made: Scene, gone: Mask) -> SceneLog:
    """Thirty views that find what has not gone."""
    log = SceneLog.of(made)
    rng = np.random.default_rng(0)
    for number in range(30):
        pose = np.eye(4)
        pose[0, 3] = number
        found = ~gone & (rng.random(len(gone)) < 0.8)
        log.add(Sighting.of(pose, np.arange(len(gone)), np.full(len(gone), 0.8), found))
    return log


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_successor_without_what_has_gone_is_taken_over_and_the_pose_stays(
    localizer: LocalizerClient,
) -> None:
    made = scene().successor()
    gone = unseen(Landmarks.from_tensors(made.landmarks))
    folder = save_scene(made, localizer.folder / made.scene_id)
    log = folder.parent / f"{made.scene_id}.log"
    log_of_changes(made, gone).save(log)
    before = contents(folder)
    localizer.start(learn_changes=True, lost_after=PATIENCE_S)
    with localizer.meet(made) as robot:
        robot.calibrate()
        statuses = localizer.attempts(robot, SHOWN[:2])
        assert statuses[-1].state == Status.LOCALIZED and statuses[-1].pose_published
        wait_for(
            lambda: localizer.heard.localizer[-1].scene_id not in ("", made.scene_id),
            "the successor",
        )
        after = localizer.attempts(robot, SHOWN[2:])
        assert all(each.pose_published and each.state == Status.LOCALIZED for each in after)
        assert {each.scene_id for each in after}.isdisjoint({made.scene_id})
        localizer.assert_right(robot, after, SHOWN[2:])
    assert contents(folder) == before and not log.exists()
    (successor,) = (
        path for path in folder.parent.glob(f"*-{after[0].scene_id[:8]}") if path.is_dir()
    )
    new = load_scene(successor)
    assert new.scene_id == after[0].scene_id and new.continues(made.scene_id)
    assert "localizer in ROS domain" in new.made_by
    left = len(made.landmarks["positions"]) - len(new.landmarks["positions"])
    assert 0.5 * gone.sum() < left <= gone.sum() + 5
    assert localizer.transition("deactivate")
    later = SceneLog.load(folder.parent / f"{new.scene_id}.log")
    assert len(later.views) == 2 and later.scene_id == new.scene_id
