"""How a mapper ends: by signals, by what it cannot start with, and by being killed in the middle of
saving.
"""

from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vggt3_ros.nodes import mapper_node
from vggt3_ros.nodes.runtime.load_network import network_of
from vggt3_ros.scene.library import find_scene
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.srv import LoadScene, SaveScene

from .mapper_client import QUICK, SETTINGS, MapperClient, running_mapper
from .processes import NodeProcess, wait_for

SUCCESS = TransitionCallbackReturn.SUCCESS


@contextmanager
def started_mapper(
    folder: Path, namespace: str, anew: bool = True, **parameters: Any
) -> Iterator[MapperClient]:
    """A mapper that starts itself and has collected four images. anew: see NodeProcess."""
    # it may come after an image
    settings = {**SETTINGS, **QUICK, "autostart": True, "require_calibration": False}
    given = {**settings, "scene_dir": str(folder / "maps"), **parameters}
    with running_mapper(folder / "log", namespace, anew=anew, **given) as mapper:
        mapper.robot.wait_until_connected()
        mapper.robot.calibrate()
        mapper.collect(4)
        yield mapper


def leftovers(library: Path) -> list[str]:
    """Names that are none of scenes."""
    return (
        [entry.name for entry in library.iterdir() if entry.name.startswith(".")]
        if library.is_dir()
        else []
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_while_it_reconstructs(
    tmp_path: Path, number: signal.Signals
) -> None:
    with started_mapper(tmp_path, f"/ends_by_{number.name.lower()}", ttt_steps=50) as mapper:
        mapper.reconstruct().wait_until_begun()
        assert mapper.process.stop(number) == 0
        assert "Traceback" not in mapper.process.log and "cancelled" in mapper.process.log
    assert not (tmp_path / "maps").exists()


def test_killed_while_it_saves_it_leaves_whole_scenes_or_none(tmp_path: Path) -> None:
    maps = tmp_path / "maps"

    def kill_while_it_saves(mapper: MapperClient) -> None:
        """On a busy machine the kill may come too late."""
        end = time.monotonic() + 60
        while not leftovers(maps) and time.monotonic() < end:
            pass
        mapper.process.kill()

    with started_mapper(tmp_path, "/killed_with_a_new_scene") as mapper:
        mapper.reconstruct()
        kill_while_it_saves(mapper)
    for entry in maps.iterdir():
        assert entry.name in leftovers(maps) or load_scene(entry)

    with started_mapper(tmp_path, "/killed_with_an_old_scene") as mapper:
        assert leftovers(maps) == [], "what the killed one left is cleared away"
        first = mapper.reconstruct(save_path="place").result()
        mapper.collect(4)
        second = mapper.reconstruct().result()
        mapper.ask_to_save("place", overwrite=True)
        kill_while_it_saves(mapper)
    assert load_scene(maps / "place").scene_id in (first.scene_id, second.scene_id)
    assert find_scene(maps) in (Path(second.path), maps / "place")

    with started_mapper(tmp_path, "/after_that") as mapper:
        assert leftovers(maps) == []
        assert mapper.load("place").code == LoadScene.Response.SUCCESS
        assert mapper.save("place", overwrite=True).code == SaveScene.Response.SUCCESS
        assert mapper.process.stop() == 0


def test_interrupts_of_the_terminal_and_of_launch_are_one_wish(tmp_path: Path) -> None:
    """Started by a script, both send one: it must still end in order."""
    with started_mapper(tmp_path, "/twice") as mapper:
        os.kill(mapper.process.pid, signal.SIGINT)
        time.sleep(0.05)
        assert mapper.process.stop() == 0
        assert "Traceback" not in mapper.process.log


@pytest.mark.parametrize(
    "parameters, words",
    [
        (
            {"min_frames": "many", "trigger_idle": -1.0},
            ("min_frames is 'many'; expected", "trigger_idle is -1.0; exp"),
        ),
        ({"min_frames": 10, "max_frames": 5}, ("min_frames is 10", "max_frames 5; lower it")),
    ],
)
def test_what_it_cannot_start_with_ends_it_with_code_1(
    tmp_path: Path, parameters: dict[str, Any], words: tuple[str, ...]
) -> None:
    process = NodeProcess(
        tmp_path / "log", "mapper_node", parameters={"autostart": True, **parameters}, anew=True
    )
    wait_for(lambda: not process.is_running, "the end of the node")
    assert process.exit_code == 1
    assert all(each in process.log for each in words) and "Traceback" not in process.log, (
        process.log
    )


def test_the_network_is_freed_when_it_is_deactivated(
    ros_context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def watched(settings: Any) -> Any:
        network = network_of(settings)
        made.append(weakref.ref(network))
        return network

    monkeypatch.setattr(mapper_node, "network_of", watched)
    node = mapper_node.MapperNode(parameter_overrides=[Parameter("scene_dir", value=str(tmp_path))])
    assert node.trigger_configure() == SUCCESS and made == []
    for count in (1, 2):
        assert node.trigger_activate() == SUCCESS and len(made) == count and made[-1]() is not None
        assert node.trigger_deactivate() == SUCCESS and made[-1]() is None
    node.stop()
    node.destroy_node()
