"""Commands that make a scene of scenes, killed while they write, or without room or permission to
write: the new scene is whole or the earlier one is there, and the sources are as they were.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vggt3_ros.scene.storage import load_scene

from ..patience import PATIENCE_S

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
COMMANDS = ("merge", "extend", "edit", "refit")
ROOM = 100_000  # bytes: less than any of the scenes
_BLOCK = 8192  # more than a file takes beyond its bytes
# Each file is written into a hidden sibling of the scene before the two are exchanged. Saving
# itself is killed at every step in test/scene/test_kill.py.
KILLED = [
    ("merge", "keyframes.json"),
    ("extend", "landmarks.safetensors"),
    ("edit", ""),  # as soon as the folder is there
    ("edit", "scene.json"),
    ("refit", "memory.safetensors"),
]


@pytest.fixture(scope="module")
def given(first: Path, second: Path, room: Path) -> dict[str, list[Path | str]]:
    """The arguments of each command but for --out."""
    known = ["--intrinsics", room / "intrinsics.json"]
    name = load_scene(first).keyframes.names[0]
    return {
        "merge": [first, second],
        "extend": [first, *sorted((room / "map").iterdir())[3:], *known],
        "edit": [first, "--drop-keyframes", name, "--keep-memory"],
        "refit": [first, "--steps", "1"],
    }


@pytest.fixture(autouse=True)
def sources_stay(first: Path, second: Path, room: Path) -> Iterator[None]:
    """To the byte, whatever happens to what is made of them."""
    before = [digests(folder) for folder in (first, second, room)]
    yield
    assert [digests(folder) for folder in (first, second, room)] == before


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("command", "file"), KILLED)
def test_killed_while_it_writes_it_leaves_the_earlier_scene_or_the_new_one(
    command: str, file: str, given: dict[str, list[Path | str]], second: Path, tmp_path: Path
) -> None:
    target = Path(shutil.copytree(second, tmp_path / "new"))
    earlier = load_scene(target).scene_id
    arguments = [sys.executable, "-m", "vggt3_ros", command, *given[command], "--out", target]
    process = subprocess.Popen(
        list(map(str, arguments)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    end = time.monotonic() + PATIENCE_S
    while not any(tmp_path.glob(f".new.*/{file}")):
        assert process.poll() is None and time.monotonic() < end, "it has not begun to write"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = load_scene(target)
    assert left.scene_id == earlier or load_scene(given[command][0]).scene_id in {
        parent.scene_id for parent in left.parents
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_full_disk_it_says_so_and_leaves_the_earlier_scene(
    vggt3: Run, command: str, given: dict[str, list[Path | str]], second: Path, tmp_path: Path
) -> None:
    with full_disk(tmp_path / "disk", second) as target:
        outcome = vggt3(command, *given[command], "--out", target)
        assert outcome.failed_with("cannot save the scene", "earlier scene there is unharmed")
        assert digests(target) == digests(second) and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    vggt3: Run, command: str, given: dict[str, list[Path | str]], tmp_path: Path
) -> None:
    with read_only(tmp_path / "disk") as disk:
        outcome = vggt3(command, *given[command], "--out", disk / "new")
        assert outcome.failed_with("cannot save the scene", "is not writable")
        assert not any(disk.iterdir())


@contextmanager
def full_disk(folder: Path, earlier: Path) -> Iterator[Path]:
    """A copy of a scene on a disk that has hardly room for more; where none may be mounted, files
    that may not get larger than that.
    """
    folder.mkdir()
    size = sum(file.stat().st_size + _BLOCK for file in earlier.iterdir())
    is_mounted = mount("-t", "tmpfs", "-o", f"size={size + ROOM}", "none", folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        target = Path(shutil.copytree(earlier, folder / "new"))
        if not is_mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
        yield target
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if is_mounted:
            subprocess.run(["umount", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder that nobody may write to: permissions do not keep root from it, a mount does."""
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
    elif mount("-t", "tmpfs", "-o", "ro", "none", folder):
        yield folder
        subprocess.run(["umount", folder], check=True)
    else:
        pytest.skip("root may write everywhere, and not mount what is read-only")


def mount(*arguments: Path | str) -> bool:
    """Whether it could be mounted."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)
    return done.returncode == 0
