"""What of a scene's keyframes outlives what is made of it: the scenes that they come from, and the
loops that they close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.scene.entries import Entries

SCENE_ID = ("[0-9a-f]{32}", "32 hexadecimal digits")


@dataclass(frozen=True)
class Origin:
    """Keyframes, one after the other in a scene, that another one was first made of: its scene_id,
    what its folder was called, and how many they are.
    """

    scene_id: str
    name: str
    keyframes: int


@dataclass(frozen=True)
class Loop:
    """Two keyframes by their numbers, of which the second saw again what the first had seen long
    before.
    """

    first: int
    second: int


def check_descent(origins: Sequence[Origin], loops: Sequence[Loop], count: int) -> None:
    """Raise InputError unless the origins, if there are any, are those of `count` keyframes, and
    each loop is of two of them and told once.
    """
    counts = [origin.keyframes for origin in origins]
    if counts and (min(counts) < 1 or sum(counts) != count):
        raise InputError(
            f"origins must be of 1 keyframe or more each and of all {count} together, got {counts}"
        )
    for loop in loops:
        if not 0 <= loop.first < loop.second < count:
            raise InputError(
                f"a loop must be of two of {count} keyframes, the earlier one first, got"
                f" {loop.first} and {loop.second}"
            )
    if len(set(loops)) != len(loops):
        raise InputError("the loops name a pair of keyframes twice; name it once")


def kept_origins(origins: Sequence[Origin], kept: Tensor) -> tuple[Origin, ...]:
    """Origins of the kept keyframes (S,)."""
    left = []
    start = 0
    for origin in origins:
        end = start + origin.keyframes
        count = int(kept[start:end].sum())
        if count:
            left.append(replace(origin, keyframes=count))
        start = end
    return tuple(left)


def kept_loops(loops: Sequence[Loop], kept: Tensor) -> tuple[Loop, ...]:
    """Loops of which both keyframes are kept (S,), by their new numbers."""
    number = (kept.cumsum(0) - 1).tolist()
    return tuple(
        Loop(number[loop.first], number[loop.second])
        for loop in loops
        if kept[loop.first] and kept[loop.second]
    )


def later_loops(loops: Sequence[Loop], before: int) -> tuple[Loop, ...]:
    """The same loops with so many other keyframes before theirs."""
    return tuple(Loop(loop.first + before, loop.second + before) for loop in loops)


def parse_origins(entries: Sequence[Entries]) -> tuple[Origin, ...]:
    """Origins of scene.json. Raises SceneError naming the entry that is wrong."""
    origins = []
    for origin in entries:
        origin.require(("scene_id", "name", "keyframes"))
        scene_id = origin.text("scene_id", *SCENE_ID)
        origins.append(Origin(scene_id, origin.text("name"), origin.count("keyframes", low=1)))
    return tuple(origins)


def parse_loops(entries: Sequence[Entries]) -> tuple[Loop, ...]:
    """Loops of scene.json. Raises SceneError naming the entry that is wrong."""
    loops = []
    for loop in entries:
        loop.require(("first", "second"))
        loops.append(Loop(loop.count("first"), loop.count("second")))
    return tuple(loops)
