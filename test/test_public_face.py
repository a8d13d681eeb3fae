"""What `import vggt3_ros` offers, only when it is asked for; README's lines and examples/ run."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vggt3_ros
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.worlds.sequence import RoomSequence

ROOT = Path(__file__).parents[1]
FACE = ast.parse((ROOT / "vggt3_ros" / "__init__.py").read_text(encoding="utf-8"))


def python(*arguments: object, cwd: Path = ROOT) -> str:
    """What a Python program of its own prints; it has to end with 0, and warnings are errors."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_bare_import_is_light_and_tells_what_there_is() -> None:
    program = "import sys, vggt3_ros; print([*sys.modules]); print(dir(vggt3_ros))"
    imported, offered = map(ast.literal_eval, python("-c", program).splitlines())
    assert not {"torch", "numpy", "safetensors", "PIL", "cv2"} & set(imported)
    assert set(vggt3_ros.__all__) <= set(offered)


@pytest.mark.parametrize("name", vggt3_ros.__all__)
def test_a_name_is_the_thing_itself(name: str) -> None:
    offered = getattr(vggt3_ros, name)
    assert offered.__name__ == name and callable(offered)
    assert getattr(sys.modules[offered.__module__], name) is offered


def test_what_types_are_told_is_what_is_there() -> None:
    (block,) = (node for node in FACE.body if isinstance(node, ast.If))
    told = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == {name: getattr(vggt3_ros, name).__module__ for name in vggt3_ros.__all__}


def test_another_name_is_refused_as_any_module_does() -> None:
    with pytest.raises(AttributeError, match="'vggt3_ros' has no attribute 'atlas'"):
        vggt3_ros.atlas  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'atlas'"):
        from vggt3_ros import atlas  # noqa: F401


def test_modules_within_are_found_as_before() -> None:
    from vggt3_ros import errors

    assert errors.__name__ == "vggt3_ros.errors"


@pytest.fixture(scope="module")
def scene(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene that the first example leaves; it has found every query."""
    folder = tmp_path_factory.mktemp("examples") / "scene"
    known = ["--poses", room / "poses.txt", "--intrinsics", room / "intrinsics.json"]
    out = python(
        "examples/map_and_localize.py", room / "map", room / "queries", *known, "--out", folder
    )
    assert "8 keyframes" in out and "metric: True" in out
    assert len(re.findall(r"^0000\d\d\.png: VERIFIED at .* m, ", out, re.MULTILINE)) == 4, out
    return folder


def test_an_example_maps_a_folder_and_localizes_in_it(scene: Path) -> None:
    assert load_scene(scene).is_verified


def test_an_example_takes_a_scene_into_numpy(
    scene: Path, drive: RoomSequence, tmp_path: Path
) -> None:
    out = python("examples/scene_to_numpy.py", scene, "--out", tmp_path / "arrays")
    stored = load_scene(scene)
    loaded = {path.stem: np.load(path) for path in (tmp_path / "arrays").iterdir()}
    assert f"points: ({len(stored.points)}, 3) float32" in out
    np.testing.assert_array_equal(loaded["colors"], stored.points.colors.numpy())
    np.testing.assert_array_equal(loaded["landmarks"], stored.landmarks["positions"].numpy())
    np.testing.assert_allclose(
        loaded["map_from_keyframes"], drive.world_from_cam[drive.map_indices], atol=0.02
    )
    assert loaded["names"].tolist() == list(stored.keyframes.names)


def test_the_lines_of_the_readme_map_and_localize(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lines,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    shutil.copytree(room / "map", tmp_path / "photos")
    shutil.copy(room / "poses.txt", tmp_path)
    shutil.copy(room / "intrinsics.json", tmp_path / "camera.json")
    shutil.copy(next((room / "queries").iterdir()), tmp_path / "new_photo.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(lines.replace("new_photo.jpg", "new_photo.png"), "README.md", "exec"), {})
    assert "LocalizationStatus.VERIFIED" in capsys.readouterr().out
    assert load_scene(tmp_path / "my_scene").is_metric
