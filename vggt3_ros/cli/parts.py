"""What `vggt3 map` and `vggt3 extend` say of the parts of a map that came apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggt3_ros.maps.apart import Drive
    from vggt3_ros.maps.extend import Extended
    from vggt3_ros.scene.scene import Scene

_RUNS = 5  # of frames that are named one by one


def save_parts(drive: Drive, out: Path) -> tuple[tuple[Scene, ...], list[Path]]:
    """Save the scenes of all parts, the largest at `out`, and return them with their folders."""
    from vggt3_ros.scene.library import part_folders
    from vggt3_ros.scene.storage import save_scene

    folders = [out, *part_folders(out, len(drive.others))]
    scenes = drive.scenes([folder.name for folder in folders])
    # the largest last: those that it names as its siblings are there then
    for scene, folder in reversed(list(zip(scenes, folders, strict=True))):
        save_scene(scene, folder)
    return scenes, folders


def parts_data(drive: Drive, scenes: Sequence[Scene], folders: Sequence[Path]) -> dict[str, Any]:
    """Which images are in which part, as JSON: the parts that are verified, the largest first, and
    what is in none of them.
    """
    return {
        "parts": [
            {
                "scene": str(folder),
                "scene_id": scene.scene_id,
                "reason": scene.verdict.reason,
                "images": list(scene.own_frames),
            }
            for scene, folder in zip(scenes, folders, strict=True)
            if scene.is_verified
        ],
        "in_no_part": list(drive.in_none),
    }


def print_parts(data: dict[str, Any], order: Sequence[str]) -> None:
    """A line for each part, from `parts_data`; nothing where all images, in this order, are in
    one.
    """
    parts = data["parts"]
    if len(parts) > 1:
        print(
            f"parts     {len(parts)}: nothing ties them to each other, each is a scene of its own"
        )
    if len(parts) > 1 or data["in_no_part"]:
        for part in parts:
            print(f"          {part['scene']}: {_named(part['images'], order)}")
    if data["in_no_part"]:
        print(f"          in no part: {_named(data['in_no_part'], order)}")


def siblings_data(extended: Extended) -> dict[str, Any]:
    """Which siblings of the scene were joined to it, as JSON, and which stay apart, and why."""
    return {
        "siblings_joined": list(extended.joined),
        "siblings_apart": [{"scene": name, "reason": reason} for name, reason in extended.apart],
    }


def print_siblings(data: dict[str, Any]) -> None:
    """A line for each sibling, from `siblings_data`."""
    for name in data["siblings_joined"]:
        print(f"part      {name} is tied to it now, and joined")
    for part in data["siblings_apart"]:
        print(f"part      {part['scene']} stays apart: {part['reason']}")


def _named(names: Sequence[str], order: Sequence[str]) -> str:
    """How many images, and which, in runs of those that follow one another."""
    wanted = set(names)
    runs: list[list[str]] = []
    before = False
    for name in order:
        if name in wanted and before:
            runs[-1].append(name)
        elif name in wanted:
            runs.append([name])
        before = name in wanted
    texts = [run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_RUNS]]
    more = sum(len(run) for run in runs[_RUNS:])
    rest = f" and {more} more" if more else ""
    return f"{len(names)} images ({', '.join(texts)}{rest})"
