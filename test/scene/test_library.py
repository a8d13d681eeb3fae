from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vggt3_ros.errors import SceneError
from vggt3_ros.scene.library import (
    clear_leftovers,
    default_library,
    find_scene,
    folder_name,
    folders_of,
    meant_folder,
    part_folders,
    prune,
)
from vggt3_ros.scene.scene import Scene, Sibling
from vggt3_ros.scene.storage import load_scene, save_scene

MakeScene = Callable[..., Scene]
ME = "/robot1/vggt3/mapper in ROS domain 0"
NAMES = [f"2024010{day}-120000-0123abcd" for day in range(1, 6)]


def save_at(scene: Scene, folder: Path, seconds: int, made_by: str = ME) -> Path:
    """Save a scene as if at that time."""
    save_scene(dataclasses.replace(scene, made_by=made_by), folder)
    os.utime(folder / "scene.json", (seconds, seconds))
    return folder


def test_a_scene_is_named_by_the_local_time_of_its_making_and_its_id(make_scene: MakeScene) -> None:
    scene = dataclasses.replace(
        make_scene(1.0), created="2024-05-06T07:08:09+00:00", scene_id="0123456789" + "ab" * 11
    )
    date, time, identity = folder_name(scene).split("-")
    assert date[:6] == "202405" and time[2:] == "0809" and identity == "01234567"


def test_a_path_means_the_scene_itself_or_the_newest_inside(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    new = save_at(scene, tmp_path / "a", 2000)
    old = save_at(scene, tmp_path / "b", 1000)
    (tmp_path / "z").mkdir()
    (tmp_path / "zz.txt").write_text("no scene")
    assert find_scene(tmp_path) == new and find_scene(old) == old
    os.utime(old / "scene.json", (3000, 3000))
    assert find_scene(tmp_path) == old, "the newest is the one written last"


def test_what_a_killed_program_left_is_no_scene(make_scene: MakeScene, tmp_path: Path) -> None:
    save_at(make_scene(1.0), tmp_path / ".a.vggt3-saving-0123", 1000)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "keyframes.json").write_text("[]")
    with pytest.raises(SceneError, match="holds no scene"):
        find_scene(tmp_path)


@pytest.mark.parametrize(
    "path, words",
    [
        ("nowhere", "is no folder"),
        ("x" * 300, "too long"),
        ("~nobody-of-that-name/maps", "give another path"),
        ("$NOBODY_SET_THIS/maps", "write the path out"),
        ("$(env HOME)/maps", "write the path out"),
    ],
)
def test_where_no_scene_can_be_it_says_so(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(SceneError, match=words):
        find_scene(path if path[0] in "~$" else tmp_path / path)


def test_users_mean_places_in_the_library_at_home_or_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    library = tmp_path / "maps"
    assert meant_folder("a/b", library) == library / "a" / "b"
    assert meant_folder("../a", library) == tmp_path / "a"
    assert meant_folder("~/a", library) == tmp_path / "home" / "a"
    assert meant_folder("$HOME/a", library) == tmp_path / "home" / "a"
    assert meant_folder("/a", library) == Path("/a")
    assert meant_folder("", library) == library
    assert meant_folder("a") == tmp_path / "a"


def test_the_oldest_go_but_only_those_that_were_made_here(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    made = [save_at(scene, tmp_path / name, 1000 + i) for i, name in enumerate(NAMES)]
    mine = save_at(scene, tmp_path / "kitchen", 10)
    renamed = save_at(scene, tmp_path / (NAMES[0] + "-kitchen"), 20)
    no_scene = tmp_path / "20230101-120000-0123abcd"
    no_scene.mkdir()
    assert prune(tmp_path, 2, ME) == made[:3]
    assert sorted(tmp_path.iterdir()) == sorted([*made[3:], mine, renamed, no_scene])
    assert load_scene(made[4]).scene_id == scene.scene_id
    assert prune(tmp_path, 2, ME) == [] == prune(tmp_path, 100, ME)


def test_scenes_of_other_robots_in_the_same_folder_stay(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    theirs = ("/robot2/vggt3/mapper in ROS domain 0", "/robot1/vggt3/mapper in ROS domain 1", "")
    others = [save_at(scene, tmp_path / NAMES[i], 1000 + i, theirs[i]) for i in range(3)]
    mine = [save_at(scene, tmp_path / name, 2000 + i) for i, name in enumerate(NAMES[3:])]
    assert prune(tmp_path, 1, ME) == mine[:1]
    assert [load_scene(folder).made_by for folder in others] == list(theirs)


def test_each_namespace_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROS_HOME", raising=False)
    assert default_library("/vggt3") == tmp_path / ".ros/vggt3/scenes"
    assert default_library("/robot1/vggt3") == tmp_path / ".ros/robot1/vggt3/scenes"
    assert default_library("/") == tmp_path / ".ros/scenes"
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "data"))
    assert default_library("/vggt3") == tmp_path / "data/vggt3/scenes"


def test_a_relative_path_that_is_missed_says_where_was_looked(
    tmp_path: Path, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "maps"
    save_at(make_scene(1.0), tmp_path / "elsewhere" / "office", 1000)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(
        SceneError, match=f"{library / 'office'} is no folder .*relative paths lie in {library}"
    ):
        find_scene("office", library)


def test_a_scene_that_was_just_made_stays_whatever_the_clock_says(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    made = [save_at(scene, tmp_path / name, 1000 + i) for i, name in enumerate(NAMES[:3])]
    newest = save_at(scene, tmp_path / "19700101-000010-0123abcd", 10)
    assert prune(tmp_path, 3, ME, newest) == made[:1] and newest.is_dir()


def test_folders_with_more_than_files_stay(make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(1.0)
    for i, name in enumerate(NAMES):
        save_at(scene, tmp_path / name, 1000 + i)
    (tmp_path / NAMES[0] / "photos").mkdir()
    elsewhere = save_at(scene, tmp_path / "elsewhere" / "map", 1000)
    link = tmp_path / "20230101-120000-0123abcd"
    link.symlink_to(elsewhere)
    assert [folder.name for folder in prune(tmp_path, 1, ME)] == NAMES[1:4]
    assert (tmp_path / NAMES[0] / "photos").is_dir() and link.is_symlink() and load_scene(elsewhere)


def test_a_library_that_is_not_there_has_nothing_to_prune_or_clear(tmp_path: Path) -> None:
    assert prune(tmp_path / "nowhere", 1, ME) == []
    clear_leftovers(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_what_killed_programs_left_is_cleared_and_nothing_else(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    save_scene(scene, tmp_path / NAMES[0])
    # the only one, of a replacement that was interrupted
    save_scene(scene, tmp_path / ".kitchen.vggt3-previous")
    for name in (f".{NAMES[1]}.vggt3-saving-0123", ".kitchen.vggt3-saving-4567", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("content")
    clear_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {
        NAMES[0],
        ".kitchen.vggt3-previous",
        ".git",
    }


def with_sibling(scene: Scene, other: Scene) -> Scene:
    return dataclasses.replace(scene, siblings=(Sibling(other.scene_id, "any", ("a",)),))


def test_the_parts_of_the_newest_scene_stay(make_scene: MakeScene, tmp_path: Path) -> None:
    part = make_scene(1.0)
    part_folder = save_at(part, tmp_path / NAMES[0], 1000)
    old = [save_at(make_scene(1.0), tmp_path / name, 2000) for name in NAMES[1:3]]
    newest = save_at(with_sibling(make_scene(1.0), part), tmp_path / NAMES[3], 3000)
    assert prune(tmp_path, 2, ME, newest) == old
    assert part_folder.exists() and newest.exists()


def test_parts_are_found_by_their_ids_whatever_they_are_called(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(1.0)
    folder = save_at(scene, tmp_path / "renamed", 1000)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "scene.json").write_text("{")
    assert folders_of({scene.scene_id, "0" * 32}, tmp_path) == {scene.scene_id: folder}
    assert folders_of({scene.scene_id}, tmp_path / "nowhere") == {}


def test_parts_go_beside_and_replace_nothing_but_parts_of_the_same_map(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert part_folders(home, 2) == [tmp_path / "home-part2", tmp_path / "home-part3"]
    part = make_scene(1.0)
    save_scene(make_scene(2.0), tmp_path / "home-part2")  # somebody else's
    (tmp_path / "home-part4").write_text("no scene")
    save_scene(part, tmp_path / "home-part3")
    assert part_folders(home, 1) == [tmp_path / "home-part5"]
    save_scene(with_sibling(make_scene(1.0), part), home)
    assert part_folders(home, 2) == [tmp_path / "home-part3", tmp_path / "home-part5"]
