"""Started by test_kill.py: kill child processes that are saving a scene, and look at what each one
leaves.

usage: kill_savers.py CONFTEST FOLDER with-exchange|without-exchange Prints, one line for kills at
random moments and one for kills at every step, the values of the scenes found after each kill;
fails when a scene cannot be loaded.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from vggt3_ros.scene import replace
from vggt3_ros.scene.storage import load_scene, save_scene


def found(folder: Path) -> float:
    """The value that the scene at `folder` carries, in every part of it."""
    scene = load_scene(folder)
    value = float(scene.bounds[1][0])
    assert scene.memory["camera_tokens"].eq(value).all() and scene.points.confidence.eq(value).all()
    assert scene.keyframes.names[0] == f"frame {value} 0"
    return value


def kill_at_random_moments(folder: Path, scenes: list[Any]) -> list[float]:
    dice, values = random.Random(7), []
    begin = time.perf_counter()
    save_scene(scenes[0], folder)
    duration = time.perf_counter() - begin
    for _ in range(60):
        child = os.fork()
        if child == 0:
            while True:
                for scene in scenes:
                    save_scene(scene, folder)
        time.sleep(dice.uniform(0, 4 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        values.append(found(folder))
    return values


def kill_at_every_step(folder: Path, scenes: list[Any]) -> list[float]:
    """Kill at the first, second, third... operation on files, until a save gets through."""
    step, finished, values = 0, False, []
    while not finished:
        save_scene(scenes[0], folder)
        step += 1
        child = os.fork()
        if child == 0:
            countdown = [step]

            def die(event: str, _: Any, countdown: list[int] = countdown) -> None:
                if event.startswith(("os.", "open", "shutil.", "fcntl.", "ctypes.")):
                    countdown[0] -= 1
                    if countdown[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(die)
            save_scene(scenes[1], folder)
            os._exit(0)
        finished = os.waitpid(child, 0)[1] == 0
        values.append(found(folder))
    return values


if __name__ == "__main__":
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("scene_conftest", sys.argv[1])
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    both = [conftest.build_scene(1.0), conftest.build_scene(2.0)]
    if sys.argv[3] == "without-exchange":
        replace._exchange = lambda a, b: False  # as on a file system that cannot
    target = Path(sys.argv[2])
    print(*kill_at_random_moments(target, both))
    print(*kill_at_every_step(target, both))
    save_scene(both[0], target)
