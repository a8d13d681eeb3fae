"""A folder of scenes: which one is meant, where a new one goes, which is the newest, which may
go.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from vggt3_ros.errors import SceneError
from vggt3_ros.scene import replace
from vggt3_ros.scene.description import DESCRIPTION, SIBLINGS
from vggt3_ros.scene.entries import Entries, parse_json
from vggt3_ros.scene.replace import current
from vggt3_ros.scene.scene import Scene

_AT_HOME = "~/.ros"  # where ROS keeps its things, unless ROS_HOME says otherwise
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


def meant_folder(path: str | os.PathLike[str], library: Path | None = None) -> Path:
    """The absolute path of the folder that a user means; relative ones lie in `library` (default:
    here).

    Variables of the environment are replaced, as by a shell. Raises SceneError for unknown ones
    ($(...) of launch files as well), for the home (~name) of somebody unknown and for links that go
    in circles.
    """
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise SceneError(
            f"{os.fspath(path)!r} has a '$' that nothing stands for; write the path out"
        )
    try:
        return ((library or Path()) / Path(expanded).expanduser()).resolve()
    except (RuntimeError, OSError) as error:
        raise SceneError(f"{os.fspath(path)!r} is no place ({error}); give another path") from error


def default_library(namespace: str) -> Path:
    """Where the nodes of a namespace keep scenes unless told otherwise: ~/.ros/NAMESPACE/scenes.

    Robots on one machine are in different namespaces, so that none gets at another's scenes. Raises
    SceneError if there is no home.
    """
    home = meant_folder(os.environ.get("ROS_HOME") or _AT_HOME)
    return home / namespace.strip("/") / "scenes"


def folder_name(scene: Scene) -> str:
    """Name for the folder of a scene among others: local time of its making, and the beginning of
    its id.
    """
    made = datetime.fromisoformat(scene.created).astimezone()
    return f"{made:%Y%m%d-%H%M%S}-{scene.scene_id[:8]}"


def find_scene(path: str | os.PathLike[str], library: Path | None = None) -> Path:
    """The scene folder that a path means: itself, or the newest (last written) scene in it.

    library: as of `meant_folder`. Raises SceneError, which says where was looked, when there is
    none.
    """
    folder = meant_folder(path, library)
    try:
        if is_scene(folder):
            return folder
        scenes = _scenes_in(folder)
    except OSError as error:
        raise SceneError(
            f"cannot look for scenes in {folder}: {error.strerror}; give another path"
        ) from error
    if scenes:
        return scenes[-1]
    what = "holds no scene" if folder.is_dir() else "is no folder"
    if library is not None and not Path(path).expanduser().is_absolute():
        what += f" (relative paths lie in {library})"
    advice = "give a folder that a reconstruction was saved to, or one that holds such folders"
    raise SceneError(f"{folder} {what}; {advice}")


def part_folders(folder: Path, count: int) -> list[Path]:
    """Folders for the `count` other parts of a map that goes into `folder`: beside it, with
    -part2, -part3, ... after its name.

    What is there already is left alone, unless it is a part of the map that `folder` holds now.
    """
    old = _siblings(folder)
    found: list[Path] = []
    number = 2
    while len(found) < count:
        place = folder.with_name(f"{folder.name}-part{number}")
        if not os.path.lexists(place) or _scene_id(place) in old:
            found.append(place)
        number += 1
    return found


def folders_of(scene_ids: Collection[str], library: Path) -> dict[str, Path]:
    """Where scenes of these ids are in `library`; the last written, should there be several."""
    found = {_scene_id(folder): folder for folder in _scenes_in(library)}
    return {scene_id: found[scene_id] for scene_id in scene_ids if scene_id in found}


def prune(library: Path, keep: int, made_by: str, newest: Path | None = None) -> list[Path]:
    """Delete the oldest scenes of `library` that `made_by` made, beyond `keep`; returns their
    folders.

    Others' scenes in the same folder stay, those that a person saved under a name of their own (not
    of `folder_name`), and folders with anything that is no plain file. newest: a scene that must
    stay, whatever its date (robots start with wrong clocks), and so must its siblings.
    """
    ours = [
        folder
        for folder in _scenes_in(library)
        if _NAME.fullmatch(folder.name) and _maker(folder) == made_by
    ]
    siblings = set() if newest is None else _siblings(newest)
    free = [folder for folder in ours if folder != newest and _scene_id(folder) not in siblings]
    gone = [folder for folder in free[: max(0, len(ours) - keep)] if _is_plain(folder)]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return gone


def clear_leftovers(library: Path) -> None:
    """Delete what programs left that were killed while they saved scenes to `library`."""
    # there is nothing to clear, or no way to
    with suppress(OSError), replace.locked_parent(library / "any"):
        replace.clear_leftovers(library)


def is_scene(folder: Path) -> bool:
    """Whether there is a scene in this very folder."""
    return (current(folder) / DESCRIPTION).is_file()


def _maker(folder: Path) -> str | None:
    """Who made a scene; None when that cannot be read."""
    with suppress(OSError, SceneError):
        return _entries(folder).text("made_by")
    return None


def _scene_id(folder: Path) -> str | None:
    """The id of a scene; None when that cannot be read."""
    with suppress(OSError, SceneError):
        return _entries(folder).text("scene_id")
    return None


def _siblings(folder: Path) -> set[str]:
    """The ids of a scene's siblings; none when they cannot be read, or there are none."""
    with suppress(OSError, SceneError):
        return {sibling.text("scene_id") for sibling in _entries(folder).parts(SIBLINGS)}
    return set()


def _entries(folder: Path) -> Entries:
    data = (folder / DESCRIPTION).read_bytes()
    return Entries.of(parse_json(data, DESCRIPTION), DESCRIPTION)


def _is_plain(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and all(entry.is_file() for entry in folder.iterdir())
    except OSError:
        return False


def _scenes_in(folder: Path) -> list[Path]:
    """Scenes in a folder, in the order in which they were written; what a killed program left is
    not among them.
    """
    try:
        entries = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    written = []
    for entry in entries:
        if not entry.name.startswith("."):
            with suppress(OSError):  # no scene, not ours to read, or just being deleted
                written.append(((entry / DESCRIPTION).stat().st_mtime_ns, entry.name))
    return [folder / name for _, name in sorted(written)]
