"""Every answer that save_scene and load_scene can give, and the mapper's life cycle, over its
services.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vggt3_ros.action import Reconstruct
from vggt3_ros.msg import MapperStatus, SceneInfo
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.srv import LoadScene, SaveScene

from .mapper_client import QUICK, MapperClient, running_mapper
from .processes import wait_for
from .robot import latched

Saved, Loaded, Result = SaveScene.Response, LoadScene.Response, Reconstruct.Result


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapperClient]:
    with running_mapper(tmp_path_factory.mktemp("mapper") / "log") as client:
        yield client


@pytest.fixture
def mapper(process: MapperClient) -> Iterator[MapperClient]:
    yield process
    process.is_sound()


@pytest.fixture(scope="module")
def kept_map(process: MapperClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of four images."""
    process.start(tmp_path_factory.mktemp("maps"), **QUICK)
    process.collect(4)
    return Path(process.reconstruct().result().path)


def test_what_was_loaded_is_saved_where_one_wants_it(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    library = tmp_path / "not" / "there" / "yet"
    mapper.start(library, watch=False)
    nothing = mapper.save("somewhere")
    assert (
        nothing.code == Saved.NO_SCENE
        and "reconstruct or load" in nothing.message
        and not library.exists()
    )

    scene = load_scene(kept_map)
    loaded = mapper.load(kept_map)
    assert (loaded.code, loaded.scene_id) == (Loaded.SUCCESS, scene.scene_id)
    assert (
        mapper.says(lambda status: status.scene_id != "", "the scene in the status").scene_id
        == scene.scene_id
    )
    told = latched(mapper.node, SceneInfo, "scene")
    assert wait_for(lambda: told, "the scene")[0].path == str(kept_map)

    saved = mapper.save("rooms/kitchen")
    assert (saved.code, saved.scene_id, saved.path) == (
        Saved.SUCCESS,
        scene.scene_id,
        str(library / "rooms/kitchen"),
    )
    assert load_scene(library / "rooms" / "kitchen").scene_id == scene.scene_id
    assert mapper.save(tmp_path / "absolute").path == str(tmp_path / "absolute")
    assert mapper.save("attic").code == Saved.SUCCESS
    for path in (".", str(library)):
        refused = mapper.save(path, overwrite=True)
        assert refused.code == Saved.FAILED and "is the folder of all scenes" in refused.message
    for path in ("rooms/kitchen", "rooms", "", library / "attic"):
        assert mapper.load(path).code == Loaded.SUCCESS


def test_a_scene_is_replaced_only_when_that_is_wanted(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    scene = load_scene(kept_map)
    save_scene(dataclasses.replace(scene, scene_id="f" * 32), tmp_path / "old")
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "today.txt").write_text("nothing happened")
    mapper.start(tmp_path, watch=False)
    mapper.load(kept_map)
    for name in ("old", "diary"):
        refused = mapper.save(name)
        assert refused.code == Saved.EXISTS and "overwrite" in refused.message
    assert load_scene(tmp_path / "old").scene_id == "f" * 32
    assert mapper.save("old", overwrite=True).code == Saved.SUCCESS
    assert load_scene(tmp_path / "old").scene_id == scene.scene_id

    refused = mapper.save("diary", overwrite=True)
    assert refused.code == Saved.FAILED and "not a scene" in refused.message
    assert (tmp_path / "diary" / "today.txt").read_text() == "nothing happened"


@pytest.mark.parametrize(
    "place", ["", "/proc/map", "/dev/null/map", "x" * 300, "~nobody-of-that-name/map"]
)
def test_where_nothing_can_be_written_saving_fails(
    mapper: MapperClient, kept_map: Path, tmp_path: Path, place: str
) -> None:
    mapper.start(tmp_path, watch=False)
    mapper.load(kept_map)
    failed = mapper.save(place)
    assert failed.code == Saved.FAILED and failed.message and not failed.path
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_leaves_the_scene_before(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    truncated, newer, foreign = (
        Path(shutil.copytree(kept_map, tmp_path / name)) for name in ("cut", "new", "other")
    )
    memory = truncated / "memory.safetensors"
    memory.write_bytes(memory.read_bytes()[:-100])
    description = json.loads((newer / "scene.json").read_text())
    (newer / "scene.json").write_text(json.dumps({**description, "version": 99}))
    scene = load_scene(kept_map)
    save_scene(dataclasses.replace(scene, model_fingerprint="0123456789abcdef"), foreign)
    (tmp_path / "empty").mkdir()

    mapper.start(tmp_path / "empty", watch=False)
    mapper.load(kept_map)
    for path, code, words in (
        (truncated, Loaded.INVALID, "memory.safetensors has"),
        (newer, Loaded.INVALID, "version 99"),
        (foreign, Loaded.WRONG_MODEL, "0123456789abcdef"),
        ("", Loaded.NOT_FOUND, "holds no scene"),
        ("nowhere", Loaded.NOT_FOUND, "is no folder"),
        ("x" * 300, Loaded.NOT_FOUND, "too long"),
        ("~nobody-of-that-name", Loaded.NOT_FOUND, "home"),
    ):
        refused = mapper.load(path)
        assert (refused.code, refused.scene_id) == (code, "") and words in refused.message, refused
    assert mapper.save("still there").scene_id == scene.scene_id


def test_a_node_that_is_not_active_says_so(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    mapper.start(tmp_path, watch=False)
    assert mapper.transition("deactivate")
    for _ in ("inactive", "unconfigured"):
        assert (
            mapper.save("a").code == Saved.INACTIVE
            and mapper.load(kept_map).code == Loaded.INACTIVE
        )
        assert mapper.reconstruct().result().code == Result.INACTIVE
        for name in ("pause", "resume", "reset"):
            answer = mapper.trigger(name)
            assert not answer.success and "activate it" in answer.message
        mapper.forget()
    assert list(tmp_path.iterdir()) == []


def test_frames_and_scene_outlast_a_break_and_end_with_the_configuration(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    mapper.start(tmp_path, **QUICK)
    mapper.load(kept_map)
    mapper.collect(4)
    assert mapper.transition("deactivate") and mapper.state() == "inactive"
    assert mapper.transition("activate")
    mapper.robot.wait_until_connected()
    mapper.robot.show(4)
    status = mapper.says(lambda status: status.frames_received == 1, "an image since activation")
    assert mapper.keeps(5).scene_id == status.scene_id != ""
    assert mapper.reconstruct().result().frames == 5

    assert (
        mapper.transition("deactivate")
        and mapper.transition("cleanup")
        and mapper.transition("configure")
    )
    assert mapper.transition("activate")
    mapper.statuses.clear()
    assert mapper.says(lambda status: True, "a status").scene_id == ""
    mapper.robot.wait_until_connected()
    mapper.collect(4)
    assert mapper.reconstruct().result().code == Result.SUCCESS


def test_deactivation_ends_a_reconstruction_and_keeps_its_frames(
    mapper: MapperClient, tmp_path: Path
) -> None:
    mapper.start(tmp_path, ttt_steps=50)
    mapper.collect(4)
    goal = mapper.reconstruct()
    goal.wait_until_begun()
    assert mapper.transition("deactivate") and mapper.state() == "inactive"
    result = goal.result()
    assert result.code == Result.FAILED and "cancelled" in result.message
    assert mapper.transition("activate") and mapper.keeps(4).state == MapperStatus.COLLECTING

    goal = mapper.reconstruct()
    goal.wait_until_begun()
    mapper.forget()  # at once: the goal's result is still on its way
    assert goal.result().code == Result.FAILED


def test_requests_in_the_making_are_answered_across_a_clean_up(
    mapper: MapperClient, kept_map: Path, tmp_path: Path
) -> None:
    mapper.start(tmp_path, watch=False)
    mapper.load(kept_map)
    answers = [mapper.ask_to_save("a"), mapper.ask_to_load(kept_map), mapper.ask_to_save("b")]
    mapper.forget()
    for answer in answers:
        wait_for(answer.done, "an answer")
    assert {answer.result().code for answer in answers} <= {
        Saved.SUCCESS,
        Saved.INACTIVE,
        Loaded.INACTIVE,
    }


def test_most_parameters_change_while_unconfigured_only(
    mapper: MapperClient, tmp_path: Path
) -> None:
    mapper.start(tmp_path, **QUICK)
    assert "max_frames cannot be changed while the node runs" in mapper.set({"max_frames": 5})
    assert mapper.set({"max_frames": 200, "scene_dir": str(tmp_path)}) == "", "what it is already"
    mapper.collect(4)
    assert mapper.set({"min_frames": 6}) == ""
    assert mapper.reconstruct().result().code == Result.TOO_FEW_FRAMES, "it counts at once"
    assert "min_frames is 300, more than max_frames 200" in mapper.set({"min_frames": 300})
    assert "did you mean 'min_frames'?" in mapper.set({"min_frame": 4})
    mapper.forget()
    assert mapper.set({"max_frames": 5}) == ""
    assert "min_frames" in mapper.set({"min_frames": 1}), "out of range"


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"min_frames": 8, "max_frames": 4}, "min_frames is 8, more than max_frames 4; lower it"),
        ({"map_frame": "/odom"}, "map_frame and odom_frame are both 'odom'"),
        ({"scene_dir": "/dev/null/maps"}, "/dev/null is a file; choose another path"),
        ({"scene_dir": "~nobody-of-that-name/maps"}, "give another path"),
        ({"model": "/no/weights.safetensors"}, "no weights at '/no/weights.safetensors'"),
        ({"device": "tpu"}, "device tpu"),
        (
            {"base_from_camera": [*[0.0] * 6, 1.0], "base_frame": ""},
            "base_frame is empty; name the robot's frame",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_configured(
    mapper: MapperClient, tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    mapper.start(tmp_path, watch=False)
    mapper.forget()
    assert mapper.set(wrong) == ""
    assert not mapper.transition("configure") and mapper.state() == "unconfigured"
    assert words in mapper.process.log.splitlines()[-1]


def test_an_activation_that_fails_can_be_tried_again(mapper: MapperClient, tmp_path: Path) -> None:
    weights = tmp_path / "damaged.safetensors"
    weights.write_bytes(b"no weights")
    mapper.start(tmp_path / "maps", watch=False)
    mapper.forget()
    mapper.set({"model": str(weights)})
    assert (
        mapper.transition("configure")
        and not mapper.transition("activate")
        and mapper.state() == "inactive"
    )
    assert "cannot activate" in mapper.process.log.splitlines()[-1]
    mapper.start(tmp_path / "maps")
    mapper.collect(1)
