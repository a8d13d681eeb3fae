"""Depth of keyframes is stored in 16 bits, with all that says what it means, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene

from .signing import resign

MakeScene = Callable[..., Scene]
MakeDepth = Callable[..., KeyframeDepth]
FILE = "depth.safetensors"


def saved(scene: Scene, depth: KeyframeDepth, folder: Path) -> KeyframeDepth:
    """What is read of depth that was saved."""
    loaded = load_scene(save_scene(replace(scene, depth=depth), folder)).depth
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("images", [True, False])
def test_depth_comes_back_to_half_a_step_and_the_rest_to_the_last_bit(
    tmp_path: Path, make_scene: MakeScene, make_depth: MakeDepth, images: bool
) -> None:
    depth = make_depth(images=images)
    loaded = saved(make_scene(1.0), depth, tmp_path / "map")
    assert (loaded.depth - depth.depth).abs().max() <= 7 / 65535 / 2 + 1e-6
    assert torch.equal(loaded.depth == 0, depth.depth == 0) and loaded.depth.max() == 7
    assert torch.equal(loaded.provenance, depth.provenance)
    assert torch.equal(loaded.intrinsics, depth.intrinsics)
    assert torch.equal(loaded.world_from_cam, depth.world_from_cam)
    assert (loaded.images is None) == (not images)
    if depth.images is not None and loaded.images is not None:
        assert torch.equal(loaded.images, depth.images)
    again = saved(make_scene(1.0), loaded, tmp_path / "map")
    assert torch.equal(again.depth, loaded.depth)


def test_a_pixel_takes_three_bytes_and_six_with_its_colour(make_depth: MakeDepth) -> None:
    cameras = 3 * (9 + 16) * 8 + 8
    assert (
        make_depth(images=False).nbytes == 3 * 60 + cameras
        and make_depth().nbytes == 6 * 60 + cameras
    )
    assert make_depth().nbytes == sum(array.nbytes for array in make_depth().arrays().values())


def test_who_needs_no_depth_does_not_read_it(
    tmp_path: Path, make_scene: MakeScene, make_depth: MakeDepth
) -> None:
    folder = save_scene(replace(make_scene(1.0), depth=make_depth()), tmp_path / "map")
    (folder / FILE).unlink()
    light = load_scene(folder, with_depth=False)
    assert light.depth is None and torch.equal(
        light.memory["camera_tokens"], make_scene(1.0).memory["camera_tokens"]
    )


def test_other_programs_read_the_file(
    tmp_path: Path, make_scene: MakeScene, make_depth: MakeDepth
) -> None:
    depth = make_depth()
    folder = save_scene(replace(make_scene(1.0), depth=depth), tmp_path / "map")
    arrays = safetensors.numpy.load_file(folder / FILE)
    assert arrays["depth"].dtype == np.uint16
    assert np.allclose(arrays["depth"] * arrays["step"], depth.depth, atol=1e-4)


def test_the_nearest_is_known_beside_the_farthest(make_depth: MakeDepth) -> None:
    depth = make_depth()
    far = depth.depth.clone()
    far[0, 1, 0] = 1e6
    assert torch.equal(
        KeyframeDepth.from_arrays(replace(depth, depth=far).arrays()).depth > 0, far > 0
    )
    nothing = replace(depth, depth=torch.zeros_like(far))
    assert not KeyframeDepth.from_arrays(nothing.arrays()).depth.any()


def test_depth_is_gone_with_the_scene_it_was_of(
    tmp_path: Path, make_scene: MakeScene, make_depth: MakeDepth
) -> None:
    folder = save_scene(replace(make_scene(1.0), depth=make_depth()), tmp_path / "map")
    (folder / "mine.txt").write_text("kept")
    save_scene(make_scene(2.0), folder)
    assert (
        load_scene(folder).depth is None
        and not (folder / FILE).exists()
        and (folder / "mine.txt").exists()
    )


@pytest.mark.parametrize(
    "damage", ["is missing", "bytes instead of", "has another checksum", "deserializing"]
)
def test_damaged_depth_is_refused(
    tmp_path: Path, make_scene: MakeScene, make_depth: MakeDepth, damage: str
) -> None:
    folder = save_scene(replace(make_scene(1.0), depth=make_depth()), tmp_path / "map")
    data = bytearray((folder / FILE).read_bytes())
    if damage == "is missing":
        (folder / FILE).unlink()
    elif damage == "bytes instead of":
        (folder / FILE).write_bytes(data[:-9])
    else:
        data[0 if damage == "deserializing" else -1] ^= 0xFF
        (folder / FILE).write_bytes(data)
    if damage == "deserializing":
        resign(folder)
    with pytest.raises(SceneError, match=f"{re.escape(str(folder))} is damaged: .*{damage}"):
        load_scene(folder)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("step", None, "depth of keyframes lacks step"),
        ("step", np.array([0.0]), r"must be uint16 in a step above 0, got uint16, \[0\.\]"),
        ("depth", np.zeros((3, 4, 5), np.int32), "must be uint16 in a step above 0, got int32"),
        ("depth", np.zeros((2, 4, 5), np.uint16), r"provenance must be \(2, 4, 5\)"),
        ("world_from_cam", np.full((3, 4, 4), np.nan), "world_from_cam contains NaN"),
        ("images", np.zeros((3, 4, 5, 3), np.uint8), r"images must be \(3, 3, 4, 5\) torch.uint8"),
    ],
)
def test_contradictory_arrays_are_refused(
    tmp_path: Path,
    make_scene: MakeScene,
    make_depth: MakeDepth,
    name: str,
    value: np.ndarray | None,
    why: str,
) -> None:
    folder = save_scene(replace(make_scene(1.0), depth=make_depth()), tmp_path / "map")
    arrays = make_depth().arrays()
    del arrays[name]
    data = safetensors.numpy.save(arrays | ({} if value is None else {name: value}))
    (folder / FILE).write_bytes(data)
    resign(folder)
    with pytest.raises(SceneError, match=f"is damaged: .*{why}"):
        load_scene(folder)


def test_depth_of_other_keyframes_is_refused(make_scene: MakeScene, make_depth: MakeDepth) -> None:
    with pytest.raises(InputError, match="depth of 2 keyframes, but there are 3"):
        replace(make_scene(1.0), depth=make_depth(frames=2))


def test_depth_that_is_none_is_refused(make_depth: MakeDepth) -> None:
    with pytest.raises(InputError, match=r"must be \(S, h, w\), got \(4, 5\)"):
        replace(make_depth(), depth=torch.ones(4, 5))
    for value, why in ((-1.0, "negative somewhere"), (float("nan"), "depth contains NaN")):
        with pytest.raises(InputError, match=why):
            replace(make_depth(), depth=torch.full((3, 4, 5), value))
