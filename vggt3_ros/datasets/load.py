"""Which reader a sequence needs: a folder's layout is recognised by its files,
`room:SEED[:FRAMES]`, corridors and yards are made on the spot.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import torch

from vggt3_ros.datasets.drives import FLOORS, MAX_FRAMES, RING, load_drive
from vggt3_ros.datasets.plain import load_plain
from vggt3_ros.datasets.sequence import Sequence, Split, standard_splits
from vggt3_ros.datasets.seven_scenes import load_seven_scenes
from vggt3_ros.datasets.tum import load_tum
from vggt3_ros.errors import InputError
from vggt3_ros.worlds.places import PLANNERS, Place

_LAYOUTS = (
    "a folder with poses.txt, intrinsics.json and images/ (plain), with rgb.txt and groundtruth.txt"
    " (TUM RGB-D), with TrainSplit.txt or frame-000000.pose.txt (7-Scenes), room:SEED[:FRAMES],"
    " moved:SEED[:FRAMES], corridor:SEED[:FRAMES], yard:SEED[:FRAMES] or ring:SEED:METRES[:FRAMES]"
)


def load_sequence(spec: str) -> Sequence:
    """The sequence of a folder in one of the known layouts, or of the procedural place `room:SEED`,
    `moved:SEED` (the same room after a third of its furniture was moved), `corridor:SEED` or
    `yard:SEED`; or of a drive around a corridor, `ring:SEED:METRES`.

    `room:SEED:FRAMES` maps so many frames of the same drive instead of 16, at most 1024.

    Raises InputError when the folder is missing or of no known layout, and for bad data, naming
    file and line.
    """
    if spec.startswith((f"{RING}:", f"{FLOORS}:")):
        return load_drive(spec)
    if is_procedural(spec):
        return _procedural(spec)
    folder = Path(os.path.abspath(spec))  # so that "." has a name
    if not folder.is_dir():
        raise InputError(f"{spec}: no such folder; a sequence is {_LAYOUTS}")
    if (folder / "poses.txt").exists():
        return load_plain(folder)
    if (folder / "rgb.txt").exists():
        return load_tum(folder)
    if (folder / "TrainSplit.txt").exists() or next(
        folder.glob("frame-*.pose.txt"), None
    ) is not None:
        return load_seven_scenes(folder)
    raise InputError(f"{spec}: not a sequence with true poses; expected {_LAYOUTS}")


def is_procedural(spec: str) -> bool:
    """Whether the sequence is made on the spot and lies in no folder."""
    kind, colon, _ = spec.partition(":")
    return bool(colon) and kind in (*PLANNERS, RING, FLOORS)


def show_the_same_place(spec: str, other: str) -> bool:
    """Whether two folders are known to show one place: one lies in the other, or both are parts of
    a 7-Scenes scene.
    """
    first, second = (_place(Path(os.path.realpath(each))) for each in (spec, other))
    return first == second or first in second.parents or second in first.parents


def _place(folder: Path) -> Path:
    return folder.parent if re.fullmatch(r"seq-\d+", folder.name) else folder


def _procedural(spec: str) -> Sequence:
    kind, seed, *frames = spec.split(":")
    short = [count for count in frames if count.isdecimal() and len(count) <= len(str(MAX_FRAMES))]
    counts = [int(count) for count in short if 2 <= int(count) <= MAX_FRAMES]
    if len(counts) != len(frames) or len(counts) > 1:
        raise InputError(
            f"{spec}: after {kind}:SEED: comes the number of map frames, 2 to {MAX_FRAMES}"
        )
    if not seed.isdecimal():
        raise InputError(
            f"{spec}: after {kind}: comes the seed, a whole number from 0, got {seed!r}"
        )
    from vggt3_ros.worlds.room import MAX_SEED
    from vggt3_ros.worlds.sequence import room_sequence

    # int() itself gives up at 4300 digits
    if len(seed) > len(str(MAX_SEED)) or int(seed) > MAX_SEED:
        shown = seed if len(seed) <= 40 else f"a number of {len(seed)} digits"
        raise InputError(
            f"{kind}:SEED takes a seed from 0 to {MAX_SEED}, got {shown}; choose a smaller one"
        )
    place = Place(kind, int(seed))
    visit = partial(room_sequence, place.seed, plan=place.plan)
    room = visit(map_frames=counts[0]) if counts else visit()
    images = room.images
    depth = room.depth
    count = len(images)
    # Queries off the mapped path.
    standard = Split(tuple(room.map_indices.tolist()), tuple(room.query_indices.tolist()))
    return Sequence(
        name=spec,
        names=tuple(f"{i:06d}" for i in range(count)),
        stamps_ns=tuple(i * 1_000_000_000 for i in range(count)),
        world_from_cam=room.world_from_cam,
        intrinsics=room.intrinsics,
        splits={"standard": standard, **standard_splits(range(count))},
        read_image=lambda i: images[i],
        read_depth=lambda i: depth[i],
        up=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        place=place,
    )
