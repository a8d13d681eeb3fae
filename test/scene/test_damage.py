"""Every entry of a scene's JSON is needed and checked, or provably not needed; no damage passes or
ends in a crash.
"""

from __future__ import annotations

import copy
import json
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vggt3_ros.errors import SceneError
from vggt3_ros.scene.descent import Loop, Origin
from vggt3_ros.scene.scene import Parent, Scene, Sibling
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

from ..landmarks.synthetic import synthetic_landmarks
from .mutations import outcomes
from .signing import ZEROS, resign, signed_text

Place = tuple[str | int, ...]
MakeScene = Callable[..., Scene]

POISONS = {
    "NaN": "NaN",
    "huge": "1e999",
    "text": '"poison"',
    "negative": "-1",
    "null": "null",
    "list": "[]",
}
NEVER = {"NaN", "huge"}  # not JSON, or no number: not even in what is not needed
VERDICT = {"verified", "reason", "poses"}
UNCOMPARED = ("calibration", "colour_difference")
ANY_TEXT = {
    "model_id",
    "model_fingerprint",
    "map_frame",
    "made_by",
    "metric_source",
    "up_source",
    "reason",
    "poses",
    "name",
}


@pytest.fixture
def folder(tmp_path: Path, make_scene: MakeScene, make_depth: Callable[..., Any]) -> Path:
    """A scene with everything that a scene can have."""
    scene = replace(
        make_scene(2.0, frames=2),
        origins=(Origin("0" * 31 + "1", "monday", 1), Origin("0" * 31 + "2", "tuesday", 1)),
        loops=(Loop(0, 1),),
        landmarks=synthetic_landmarks(2, 12).tensors(),
        verdict=MapVerdict(True, "12 landmarks tie 2 of 2 keyframes", "held as given"),
        calibration=MapCalibration(((640, 480), (480, 640)), focal_factor=1.0625, depth_scale=2.5),
        report={
            "residual_px": 0.5,
            "prior_outliers": [],
            "depth": {"planes": [{"plane": [0.0, 0, 1, 2], "share": 0.3}]},
        },
        depth=make_depth(2),
        has_refined_points=True,
        parents=(Parent("0" * 31 + "1", "monday"), Parent("0" * 31 + "2", "tuesday")),
        siblings=(Sibling("0" * 31 + "3", "map-part2", ("seventh", "eighth")),),
    )
    return save_scene(scene, tmp_path / "map")


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where every entry is, of objects and lists at any depth."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, inner in items:
        yield (*place, name)
        yield from places(inner, (*place, name))


def spoiled(value: Any, place: Place, damage: str) -> str:
    """JSON with one entry removed, given twice, or replaced by a poison."""
    whole = copy.deepcopy(value)
    around = whole
    for name in place[:-1]:
        around = around[name]
    last = place[-1]
    if damage == "removed":
        del around[last]
    elif damage != "doubled":
        around[last] = "@poison@"
    elif isinstance(around, list):
        around.insert(last, around[last])
    else:
        around["@twice@"] = around[last]
    text = json.dumps(whole).replace('"@poison@"', POISONS.get(damage, ""))
    return text.replace('"@twice@"', json.dumps(last))


def is_harmless(place: Place, damage: str) -> bool:
    """Whether an entry may be so: any text where any will do, any sign, and whatever people alone
    read.
    """
    if damage in NEVER:
        return False
    if place[0] == "parents" and damage == "removed":
        return len(place) < 3  # a scene without parents, or of one
    if place[0] == "siblings" and len(place) == 4 and damage != "null":
        return damage in ("removed", "doubled", "text")  # frames with any names
    if place == UNCOMPARED and damage in ("removed", "null"):
        return True  # as in a scene made before colours were compared
    if place == ("siblings",) and damage == "removed":
        return True
    if place[0] in ("origins", "loops") and damage == "removed":
        return len(place) == 1  # a scene without any
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    if place[0] == "verification" and len(place) > 1 and place[1] not in VERDICT:
        return damage != "doubled" or isinstance(place[-1], int)
    if damage == "text":
        return name in ANY_TEXT
    if damage == "null":
        return name == "metric_residual_m"
    return damage == "negative" and may_be_negative(
        name, place[place.index(name) + 1 :] if name else ()
    )


def may_be_negative(name: str, at: Place) -> bool:
    """Whether a number may, at its place in the entry of this name."""
    if name == "bounds":
        # the lowest corner, and where the highest lies still higher
        return at in [(0, 0), (0, 1), (0, 2), (1, 0)]
    if name == "cam_from_world":
        return len(at) == 2 and at[1] == 3
    if name == "intrinsics":
        return at in [(0, 2), (1, 2)]
    return name == "stamp_ns" or (name == "translation" and len(at) == 1)


@pytest.mark.parametrize("name", ["scene.json", "keyframes.json"])
def test_every_entry_is_checked_or_not_needed(folder: Path, name: str) -> None:
    """Checksums are put right after each damage: they alone would refuse all of it."""
    whole = load_scene(folder)
    file = folder / name
    value = json.loads(file.read_text())
    wrong = []
    for place in places(value):
        if place == ("checksum",):
            continue
        for damage in ("removed", "doubled", *POISONS):
            text = spoiled(value, place, damage)
            if name == "scene.json":
                file.write_bytes(signed_text(text.replace(value["checksum"], ZEROS)))
            else:
                file.write_text(text)
                resign(folder)
            try:
                loaded = load_scene(folder)
            except SceneError as error:
                names = [part.partition(".")[0] for part in place if isinstance(part, str)] or [
                    name
                ]
                is_named = damage in NEVER or any(part in str(error) for part in names)
                if is_harmless(place, damage) or not is_named:
                    wrong.append((place, damage, str(error)))
            else:
                same = (loaded.verdict, loaded.calibration) == (whole.verdict, whole.calibration)
                may_differ = place[-1] in VERDICT or place == UNCOMPARED
                if not is_harmless(place, damage) or not (same or may_differ):
                    wrong.append((place, damage, "accepted"))
    assert not wrong


def test_without_its_checksum_put_right_no_change_of_an_entry_is_accepted(folder: Path) -> None:
    file = folder / "scene.json"
    value = json.loads(file.read_text())
    accepted = []
    for place in places(value):
        for damage in ("removed", "doubled", *POISONS):
            file.write_text(spoiled(value, place, damage))
            with suppress(SceneError):
                load_scene(folder)
                accepted.append((place, damage))
    assert not accepted


def test_editing_by_hand_is_told_with_what_to_do(folder: Path) -> None:
    file = folder / "scene.json"
    file.write_text(file.read_text().replace('"focal_factor": 1.0625', '"focal_factor": 1.0725'))
    with pytest.raises(
        SceneError,
        match=r"map: scene.json was edited by hand or damaged .*; undo the change, restore",
    ):
        load_scene(folder)
    resign(folder)  # as docs/scene_format.md says: the checksum can be made by others
    calibration = load_scene(folder).calibration
    assert calibration is not None and calibration.focal_factor == 1.0725


def test_the_documentation_says_how_the_checksum_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scene_format.md").read_text()
    code = textwrap.dedent(page.partition("```python\n")[2].partition("  ```")[0])
    monkeypatch.chdir(folder)
    exec(f"import hashlib, json\n{code}")
    file = folder / "scene.json"
    file.write_text(file.read_text().replace("1.0625", "1.0725"))
    with pytest.raises(AssertionError):
        exec(f"import hashlib, json\n{code}")


def test_an_edited_scene_may_be_replaced(folder: Path, make_scene: MakeScene) -> None:
    file = folder / "scene.json"
    file.write_text(file.read_text().replace("1.0625", "1.0725"))
    save_scene(make_scene(1.0), folder)
    assert load_scene(folder).memory["camera_tokens"].eq(1.0).all()


def test_no_damage_is_accepted_and_none_ends_in_a_crash(folder: Path) -> None:
    assert outcomes(folder, 400) == {"refused": 400}


def test_damage_with_checksums_put_right_ends_in_no_crash(folder: Path) -> None:
    """By somebody who keeps the checksums of the files in scene.json, and its own, up to date."""

    def put_right(damaged: Path) -> None:
        with suppress(Exception):
            resign(damaged)

    assert set(outcomes(folder, 300, seed=1, afterwards=put_right)) <= {"refused", "accepted"}


def test_what_would_be_refused_is_not_saved(tmp_path: Path, make_scene: MakeScene) -> None:
    scene = replace(make_scene(1.0), created="yesterday")
    with pytest.raises(
        SceneError, match="cannot save a scene that would be refused when it is read: .*'yesterday'"
    ):
        save_scene(scene, tmp_path / "map")
    assert list(tmp_path.iterdir()) == []


def test_a_scene_read_without_its_depth_is_not_saved_without_it(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SceneError, match=r"of refined depth, but has no depth\.safetensors"):
        save_scene(load_scene(folder, with_depth=False), tmp_path / "copy")
