"""Where keyframes come from, and loops that they close, outlive what is made of a scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.scene.descent import Loop, Origin, kept_loops, kept_origins, later_loops
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene

MONDAY = Origin("1" * 32, "maps/monday", 3)
TUESDAY = Origin("2" * 32, "maps/tuesday", 2)
LOOPS = (Loop(0, 3), Loop(1, 4))


def test_they_are_stored_with_a_scene_that_has_some(
    tmp_path: Path, make_scene: Callable[..., Scene]
) -> None:
    plain = make_scene(1.0, frames=5)
    scene = replace(plain, origins=(MONDAY, TUESDAY), loops=LOOPS)
    read = load_scene(save_scene(scene, tmp_path / "map"))
    assert (read.origins, read.loops) == ((MONDAY, TUESDAY), LOOPS)
    save_scene(plain, tmp_path / "map")
    entries = json.loads((tmp_path / "map" / "scene.json").read_text())
    assert "origins" not in entries and "loops" not in entries


def test_keyframes_that_go_take_theirs_with_them() -> None:
    kept = torch.tensor([True, False, True, True, False])
    assert kept_origins((MONDAY, TUESDAY), kept) == (
        replace(MONDAY, keyframes=2),
        replace(TUESDAY, keyframes=1),
    )
    assert kept_origins((MONDAY, TUESDAY), torch.arange(5) > 2) == (TUESDAY,)
    assert kept_loops(LOOPS, kept) == (Loop(0, 2),)
    assert later_loops(LOOPS, 10) == (Loop(10, 13), Loop(11, 14))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"origins": (MONDAY,)}, "of all 5 together, got .3."),
        ({"origins": (MONDAY, replace(TUESDAY, keyframes=0))}, "1 keyframe or more each"),
        ({"loops": (Loop(0, 5),)}, "two of 5 keyframes, .* got 0 and 5"),
        ({"loops": (Loop(3, 1),)}, "the earlier one first"),
        ({"loops": (Loop(1, 3), Loop(1, 3))}, "twice"),
    ],
)
def test_what_contradicts_the_keyframes_is_refused(
    make_scene: Callable[..., Scene], changes: dict[str, object], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        replace(make_scene(1.0, frames=5), **changes)
