"""The mapper's work apart from ROS."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.maps import apart
from vggt3_ros.maps.merge import CannotMergeError
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.nodes.mapper import collector, mapping_job
from vggt3_ros.nodes.mapper.mapper import BusyError, InactiveError, Mapper, TooFewFramesError
from vggt3_ros.nodes.mapper.mapping_job import CanceledError, MappingJob
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.scene.library import find_scene
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.worlds.sequence import RoomSequence

from ..patience import PATIENCE_S
from ..two_rooms import FIRST, HERE, LATER, two_rooms
from .mapper_client import QUICK, visit
from .processes import wait_for

ME = "/vggt3/mapper in ROS domain 0"


class Told:
    """What a mapper told about itself."""

    def __init__(self) -> None:
        self.scenes: list[tuple[str, Path]] = []
        self.said: list[tuple[str, bool]] = []
        self.changes = 0

    def change(self) -> None:
        self.changes += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def make(tmp_path: Path, told: Told) -> Callable[..., Mapper]:
    """An active mapper that has collected four frames."""

    def make(library: str = "maps", **changes: Any) -> Mapper:
        settings = MapperParameters(**{**QUICK, "min_frames": 4, **changes})
        mapper = Mapper(
            lambda: settings,
            tmp_path / library,
            ME,
            lambda scene, folder: told.scenes.append((scene.scene_id, folder)),
            lambda message, failed: told.said.append((message, failed)),
            told.change,
        )
        mapper.begin(load_network("tiny"))
        drive = visit()
        for index in range(4):
            pose = drive.world_from_cam[index]
            mapper.collector.add(
                Frame(drive.images[index], index + 1, drive.intrinsics, prior_world_from_cam=pose)
            )
        return mapper

    return make


def test_who_hears_of_the_outcome_finds_the_mapper_done(
    make: Callable[..., Mapper], told: Told
) -> None:
    mapper = make()
    job = mapper.start()
    seen: list[object] = []
    job.outcome.add_done_callback(
        lambda _: seen.append((mapper.job, mapper.scene, len(told.scenes)))
    )
    with pytest.raises(BusyError, match="running already"):
        mapper.start()
    mapped = job.outcome.result(PATIENCE_S)
    job.wait()
    scene = mapped.scene
    assert seen == [(None, scene, 1)] and told.scenes == [(scene.scene_id, mapped.folder)]
    assert load_scene(mapped.folder).scene_id == scene.scene_id
    assert told.said[-1][1] is False and scene.scene_id[:8] in told.said[-1][0] and told.changes > 3
    with pytest.raises(TooFewFramesError, match="0 keyframes"):
        mapper.start()


def test_an_unexpected_error_gives_the_frames_back_and_is_reported(
    make: Callable[..., Mapper],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("nobody expected this")

    mapper = make()
    monkeypatch.setattr(mapping_job, "reconstruct", broken)
    job = mapper.start()
    assert isinstance(job.outcome.exception(PATIENCE_S), ZeroDivisionError)
    assert mapper.job is None and len(mapper.collector) == 4
    message, failed = told.said[-1]
    assert failed and "bug in this program" in message and "nobody expected this" in message
    assert "in broken" in capfd.readouterr().err, "the traceback"
    monkeypatch.undo()
    assert mapper.start().outcome.result(PATIENCE_S).scene.keyframes.names


def test_a_budget_is_planned_and_said_before_and_after(
    make: Callable[..., Mapper], told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mapper = make(map_budget_s=600.0, map_budget_gb=8.0)
    scene = mapper.start().outcome.result(PATIENCE_S).scene
    plan, made = (message for message, _ in told.said[-2:])
    assert plan.startswith("for 600 s and 8 GB: 4 frames") and made.startswith("scene ")
    assert "; planned: 4 frames, 4 of them fitted in 1 TTT steps, images of" in made
    assert scene.report["budget"]["given"] == {"seconds": 600.0, "memory_bytes": 8 * 10**9}


def test_stopping_cancels_and_lets_go_of_the_network_even_if_somebody_keeps_the_job(
    make: Callable[..., Mapper], told: Told
) -> None:
    mapper = make(ttt_steps=50)
    network = weakref.ref(mapper.network)
    job: MappingJob = mapper.start()
    mapper.stop()
    assert isinstance(job.outcome.exception(), CanceledError) and mapper.job is None
    assert len(mapper.collector) == 4 and told.said[-1][1] is False
    gc.collect()
    assert network() is None
    with pytest.raises(InactiveError):
        mapper.start()


def test_standing_still_makes_the_first_scene_only(
    make: Callable[..., Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A robot that halts in its map again keeps it; whoever wants another one asks for it."""
    now = [0.0]
    monkeypatch.setattr(collector, "time", SimpleNamespace(monotonic=lambda: now[0]))
    mapper = make(trigger_idle=5.0)
    now[0] += 6
    mapper.start_if_due()
    assert mapper.job is not None
    frames = mapper.job.frames
    mapper.job.outcome.result(PATIENCE_S)
    wait_for(lambda: mapper.job is None, "the end of the job")
    assert mapper.scene is not None
    for frame in frames:
        mapper.collector.add(frame)
    now[0] += 600
    mapper.start_if_due()
    assert mapper.job is None and len(mapper.collector) == 4
    mapper.stop()


def test_a_copy_that_fails_does_not_lose_the_scene(
    make: Callable[..., Mapper], told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(scene: Scene, path: Path) -> Path:
        if path == tmp_path / "stick":
            raise SceneError("no space left on the stick")
        return save_scene(scene, path)

    monkeypatch.setattr(mapping_job, "save_scene", full_disk)
    mapper = make()
    mapped = mapper.start(save_path=tmp_path / "stick").outcome.result(PATIENCE_S)
    assert "no space left" in mapped.uncopied
    assert told.scenes == [(mapped.scene.scene_id, mapped.folder)] and len(mapper.collector) == 0
    assert load_scene(mapped.folder).scene_id == mapped.scene.scene_id
    mapper.stop()


def test_only_time_in_which_images_could_come_triggers_it(
    make: Callable[..., Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(collector, "time", SimpleNamespace(monotonic=lambda: now[0]))
    mapper = make(trigger_idle=5.0, ttt_steps=50)
    network = mapper.active_network
    mapper.paused = True
    now[0] += 60
    mapper.start_if_due()
    mapper.resume()
    mapper.start_if_due()
    mapper.stop()
    now[0] += 60
    mapper.begin(network)
    mapper.start_if_due()
    assert mapper.job is None
    now[0] += 6
    mapper.start_if_due()
    assert mapper.job is not None
    mapper.stop()


def test_a_library_that_cannot_be_is_refused_at_once(
    make: Callable[..., Mapper], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SceneError, match="is a file"):
        make("file")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "diary.txt").write_text("whatever a user keeps there")
    make("")


def test_an_unexpected_error_of_what_announces_a_scene_is_reported_and_the_mapper_goes_on(
    make: Callable[..., Mapper], told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(scene: Scene, folder: Path) -> None:
        raise ZeroDivisionError("nobody expected this")

    mapper = make()
    mapper._on_scene = broken
    job = mapper.start()
    mapped = job.outcome.result(PATIENCE_S)
    assert mapper.job is None and load_scene(mapped.folder)
    assert told.said[-1][1] and "nobody expected this" in told.said[-1][0]
    assert "in broken" in capfd.readouterr().err, "the traceback"


def test_who_waits_for_an_outcome_gets_it_whatever_the_mapper_does_at_the_end(
    make: Callable[..., Mapper], told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    mapper = make()
    mapper._on_end = lambda *_: 1 / 0  # type: ignore[method-assign]
    assert mapper.start().outcome.result(PATIENCE_S).scene.keyframes.names
    assert "ZeroDivisionError" in capfd.readouterr().err


def collect(mapper: Mapper, drive: RoomSequence, which: range) -> None:
    """Frames of a drive, with odometry in a frame of its own."""
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.tensor([4.0, 5.0, 0.0])
    for index in which:
        pose = shift @ drive.world_from_cam[index]
        mapper.collector.add(
            Frame(drive.images[index], index + 10, drive.intrinsics, prior_world_from_cam=pose)
        )


@pytest.fixture
def mapped(make: Callable[..., Mapper], drive: RoomSequence) -> Mapper:
    """A mapper whose newest scene is of the first five frames of a drive."""
    mapper = make(landmarks=True)
    mapper.collector.clear()
    for index in range(5):
        pose = drive.world_from_cam[index]
        mapper.collector.add(
            Frame(drive.images[index], index + 1, drive.intrinsics, prior_world_from_cam=pose)
        )
    assert mapper.start().outcome.result(PATIENCE_S).scene.is_verified
    return mapper


def test_a_later_collection_extends_the_scene(
    mapped: Mapper, told: Told, drive: RoomSequence
) -> None:
    first = mapped.scene
    assert first is not None
    collect(mapped, drive, range(2, 8))
    outcome = mapped.start().outcome.result(PATIENCE_S)
    scene = outcome.scene
    assert mapped.scene is scene and scene.continues(first.scene_id)
    assert len(scene.keyframes) == 11 and "extends scene" in told.said[-1][0]
    true = drive.world_from_cam[[*range(5), *range(2, 8)]]
    assert float((scene.map_from_keyframes - true)[:, :3, 3].norm(dim=1).max()) < 0.03
    assert load_scene(outcome.folder).parents == scene.parents


def test_a_collection_of_another_place_becomes_a_scene_of_its_own_and_says_why(
    mapped: Mapper, told: Told, elsewhere: RoomSequence
) -> None:
    first = mapped.scene
    assert first is not None
    for index in range(4):
        image = np.roll(elsewhere.images[0], 40 * index, axis=1)
        mapped.collector.add(Frame(image, index + 10, elsewhere.intrinsics))
    with pytest.raises(CannotMergeError, match="0 of"):
        raise mapped.start(extend=True).outcome.exception(PATIENCE_S) or AssertionError
    assert mapped.scene is first and len(mapped.collector) >= 4
    scene = mapped.start().outcome.result(PATIENCE_S).scene
    assert scene.parents == () and "a scene of its own: 0 of" in told.said[-1][0]


def test_a_collection_that_comes_apart_becomes_two_scenes_and_a_later_one_ties_them(
    make: Callable[..., Mapper], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_MIN_FRAMES", len(FIRST) - HERE)
    mapper = make(landmarks=True, dense="off", keep_scenes=1)
    mapper.collector.clear()
    for frame in two_rooms().frames(FIRST):
        mapper.collector.add(frame)
    outcome = mapper.start().outcome.result(PATIENCE_S)
    [(other, folder)] = outcome.parts
    assert len(outcome.scene.own_frames) == HERE and len(other.own_frames) == 5
    assert f"6 frames are in this scene, 5 in {folder}, 0 in none" in told.said[-1][0]
    assert find_scene(mapper.library) == outcome.folder, "the newest is the largest part"
    assert load_scene(folder).siblings[0].scene_id == outcome.scene.scene_id
    for frame in two_rooms().frames(LATER):
        mapper.collector.add(frame)
    scene = mapper.start(extend=True).outcome.result(PATIENCE_S).scene
    assert f"{folder.name} is tied to it now, and joined" in told.said[-1][0]
    assert [parent.scene_id for parent in scene.parents][1:] == [other.scene_id]


def test_a_new_scene_can_be_asked_for(mapped: Mapper, drive: RoomSequence) -> None:
    collect(mapped, drive, range(2, 8))
    assert mapped.start(extend=False).outcome.result(PATIENCE_S).scene.parents == ()


def test_there_must_be_a_verified_scene_to_extend(make: Callable[..., Mapper]) -> None:
    mapper = make()
    with pytest.raises(SceneError, match="no scene yet"):
        mapper.start(extend=True)
    mapper.start().outcome.result(PATIENCE_S)
    for index in range(4):
        mapper.collector.add(Frame(visit().images[index], index + 10))
    with pytest.raises(SceneError, match="no scene whose poses are verified"):
        mapper.start(extend=True)
    assert len(mapper.collector) >= 1


def test_cancelling_an_extension_leaves_everything_as_it_was(
    mapped: Mapper, drive: RoomSequence
) -> None:
    first = mapped.scene
    collect(mapped, drive, range(2, 8))
    count = len(mapped.collector)
    job = mapped.start()
    job.cancel()
    assert isinstance(job.outcome.exception(PATIENCE_S), CanceledError)
    job.wait()
    assert mapped.scene is first and len(mapped.collector) == count
    assert len([each for each in mapped.library.iterdir() if each.is_dir()]) == 1
