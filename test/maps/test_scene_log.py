"""Logs of scenes come back as they were written, or are refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.sighting import Sighting
from vggt3_ros.maps.scene_log import MAX_VIEWS, SceneLog

from ..landmarks.synthetic import synthetic_landmarks
from .conftest import scene_of

LANDMARKS = synthetic_landmarks()


def sighting(number: int, found: bool = True) -> Sighting:
    pose = np.eye(4)
    pose[0, 3] = number
    which = np.arange(number % 5, 60)
    return Sighting.of(pose, which, np.full(len(which), 0.5), np.full(len(which), found))


@pytest.fixture
def log() -> SceneLog:
    made = SceneLog.of(scene_of(LANDMARKS, 1))
    for number in range(6):
        assert made.add(sighting(number))
    return made


def test_a_log_comes_back_as_it_was_written(log: SceneLog, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log.save(path)
    again = SceneLog.load(path)
    assert (again.scene_id, again.landmarks) == (log.scene_id, 60)
    assert again.usual_distance == LANDMARKS.usual_distance
    for one, other in zip(log.views, again.views, strict=True):
        assert np.array_equal(one.world_from_cam, other.world_from_cam)
        assert np.array_equal(one.landmarks, other.landmarks)
        assert np.array_equal(one.likelihood, other.likelihood)
        assert np.array_equal(one.found, other.found)
    empty = SceneLog.of(scene_of(LANDMARKS, 1))
    empty.save(path)
    assert SceneLog.load(path).views == []


def test_a_robot_that_stands_still_says_nothing_twice(log: SceneLog) -> None:
    count = len(log.views)
    for _ in range(10):
        assert not log.add(sighting(5, found=False))
    assert len(log.views) == count and log.views[-1].found.all()
    copy = log.copy()
    log.add(sighting(0))
    assert len(copy.views) == count


def test_the_oldest_views_go_first(log: SceneLog) -> None:
    for number in range(6, MAX_VIEWS + 3):
        log.add(sighting(number))
    assert len(log.views) == MAX_VIEWS and log.views[0].world_from_cam[0, 3] == 3


def test_a_log_of_another_scene_is_refused_by_name(log: SceneLog) -> None:
    log.check_is_of(scene_of(LANDMARKS, 1), "a.log")
    with pytest.raises(InputError, match="a.log is a log of scene 0+1, not of 0+2"):
        log.check_is_of(scene_of(LANDMARKS, 2), "a.log")
    fewer = scene_of(synthetic_landmarks(points=59), 1)
    with pytest.raises(InputError, match="a.log is a log of 60 landmarks"):
        log.check_is_of(fewer, "a.log")


def test_damaged_and_foreign_files_are_refused(log: SceneLog, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log.save(path)
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    last = bytes([data[-1] ^ 1])
    for wrong, message in (
        (data[: len(data) // 2], "is damaged"),
        (data[:-1] + last, "another checksum"),
        (data[: header + 40] + b"\xff" + data[header + 41 :], "another checksum"),
        (b"", "is no log"),
        (b"text that is no log at all", "is no log"),
        (safetensors.numpy.save({"a": np.zeros(3)}), "is no log"),
        (data.replace(b'"version":"1"', b'"version":"2"'), "of version 2"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match=message):
            SceneLog.load(path)
    with pytest.raises(InputError, match="cannot read the log"):
        SceneLog.load(tmp_path / "none.log")
    with pytest.raises(InputError, match="cannot write the log"):
        log.save(tmp_path / "no" / "folder.log")


def test_a_log_that_names_unknown_landmarks_is_refused(log: SceneLog, tmp_path: Path) -> None:
    log.views[0] = replace(log.views[0], landmarks=log.views[0].landmarks + 1)
    log.save(tmp_path / "a.log")
    with pytest.raises(InputError, match="none of 60"):
        SceneLog.load(tmp_path / "a.log")
