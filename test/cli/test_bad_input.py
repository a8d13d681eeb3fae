"""Everything a user can get wrong: one clear line, the right exit code, and an existing scene as it
was.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggt3_ros.scene.storage import load_scene

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]


def content(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def spoil_truncated(folder: Path) -> None:
    file = folder / "000001.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil_text(folder: Path) -> None:
    (folder / "000001.png").write_text("this is no image")


def spoil_black(folder: Path) -> None:
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(folder / "000001.png")


def spoil_size(folder: Path) -> None:
    Image.fromarray(np.asarray(Image.open(folder / "000001.png"))[:60]).save(folder / "000001.png")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_truncated, "cannot be read as an image"),
        (spoil_text, "cannot be read as an image"),
        (spoil_black, "the image is black"),
        (spoil_size, "the image is 128x60, most are 128x96: "),
    ],
)
def test_unusable_image_is_skipped_counted_and_named(
    spoil: Callable[[Path], None],
    reason: str,
    vggt3: Run,
    own_images: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    spoil(own_images)
    outcome = vggt3(
        "map",
        own_images,
        "--out",
        tmp_path / "scene",
        "--model",
        checkpoint,
        "--json",
        tmp_path / "map.json",
    )
    assert outcome.code == 0, outcome
    assert "skipped   1 images" in outcome.out
    assert "vggt3: skipped 000001.png: " in outcome.err and reason in outcome.err
    skipped = json.loads((tmp_path / "map.json").read_text())["skipped"]
    assert [entry["image"] for entry in skipped] == ["000001.png"] and reason in skipped[0][
        "reason"
    ]
    assert len(load_scene(tmp_path / "scene").keyframes) == 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "LA"])
def test_grey_transparent_and_16_bit_images_are_taken(
    mode: str, vggt3: Run, own_images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for file in own_images.iterdir():
        image = Image.open(file)
        if mode == "I;16":
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(file)
        else:
            image.convert(mode).save(file)
    outcome = vggt3("map", own_images, "--out", tmp_path / "scene", "--model", checkpoint)
    assert outcome.code == 0 and "5 keyframes" in outcome.out, outcome


def test_pose_with_nan_skips_its_image(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    poses = tmp_path / "poses.txt"
    poses.write_text("0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n2 1 0 0 nan 0 1 0 0 0 0 1 0 0 0 0 1\n")
    outcome = vggt3(
        "map", images, "--out", tmp_path / "scene", "--model", checkpoint, "--poses", poses
    )
    assert outcome.code == 0 and "skipped 000002.png" in outcome.err and "NaN" in outcome.err, (
        outcome
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 1 0 0", "poses.txt, line 1: got 4 columns"),
        ("x 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "poses.txt, line 1: 'x' is not a frame number"),
        ("0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 one", "poses.txt, line 1: 'one' is not a number"),
        ("0 9 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "poses.txt, line 1"),
        ("", "poses.txt: no data"),
    ],
)
def test_damaged_pose_file_is_named_with_its_line(
    line: str, complaint: str, vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "poses.txt").write_text(line)
    outcome = vggt3(
        "map",
        images,
        "--out",
        tmp_path / "scene",
        "--model",
        checkpoint,
        "--poses",
        tmp_path / "poses.txt",
    )
    assert outcome.failed_with(complaint)


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        (["000000.png"], "at least 2 usable frames"),
        (["000000.png", "missing.png"], "missing.png: no such file"),
    ],
)
def test_one_image_or_a_missing_one_is_a_failure(
    chosen: list[str], complaint: str, vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    files = [images / name for name in chosen]
    assert vggt3("map", *files, "--out", tmp_path / "scene", "--model", checkpoint).failed_with(
        complaint
    )
    assert not (tmp_path / "scene").exists()


@pytest.mark.parametrize("command", ["map", "localize", "evaluate"])
def test_no_images_at_all_is_wrong_usage(command: str, vggt3: Run, scene: Path) -> None:
    arguments = {"map": ["--out", "x"], "localize": [scene], "evaluate": []}[command]
    assert vggt3(command, *arguments).failed_with("the following arguments are required", code=2)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--out", "/proc/scene", "/proc"),
        ("--out", "{file}/scene", "is a file"),
        ("--out", "{images}", "is not a scene"),
        ("--json", "/proc/x.json", "/proc"),
        ("--json", "{missing}/x.json", "there is no folder"),
        ("--picture", "{images}", "is a folder"),
        ("--model", "{missing}", "no weights at"),
        ("--model", "{text}", "cannot be read as weights"),
        ("--device", "abacus", "--device abacus"),
        ("--intrinsics", "{missing}", "cannot read"),
        ("--intrinsics", "{text}", "not valid JSON"),
        ("--poses", "{missing}", "cannot read"),
    ],
)
def test_bad_option_fails_with_its_reason_and_spoils_nothing(
    option: str,
    value: str,
    complaint: str,
    vggt3: Run,
    images: Path,
    checkpoint: Path,
    scene: Path,
    tmp_path: Path,
) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("nonsense")
    places = {"file": text, "images": images, "missing": tmp_path / "missing", "text": text}
    before, images_before = content(scene), content(images)
    options = {"--out": scene, "--model": checkpoint, option: value.format(**places)}
    outcome = vggt3("map", images, *(part for item in options.items() for part in item))
    assert outcome.failed_with(complaint)
    assert content(scene) == before and content(images) == images_before


@pytest.mark.parametrize("command", ["evaluate", "bench"])
def test_seed_beyond_64_bits_is_wrong_usage(command: str, vggt3: Run) -> None:
    argument = {"evaluate": "x", "bench": "mapping"}[command]
    assert vggt3(command, argument, "--seed", 2**64).failed_with("--seed", "2^64 - 1", code=2)


def test_device_that_holds_no_data_is_refused(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "map", images, "--out", tmp_path / "scene", "--model", checkpoint, "--device", "meta"
    )
    assert outcome.failed_with("--device meta", "give cpu, cuda or cuda:N")


def test_root_is_no_scene_folder(vggt3: Run, images: Path, checkpoint: Path) -> None:
    assert vggt3("map", images, "--out", "/", "--model", checkpoint).failed_with(
        "cannot save the scene to /:"
    )


@pytest.mark.parametrize("name", ["p.xyz", "picture", ".png", "p.tif"])
def test_picture_of_unknown_format_is_wrong_usage(
    name: str, vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--out", tmp_path / "scene", "--picture", tmp_path / name, "--model", checkpoint]
    assert vggt3("map", images, *options).failed_with("--picture", ".png, .jpg, .pdf, .svg", code=2)
    assert not list(tmp_path.iterdir())


def test_default_picture_does_not_replace_a_photograph(
    vggt3: Run, own_images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    photograph = own_images / "000000.png"
    before = content(own_images)
    options = ["--out", own_images / "000000", "--model", checkpoint]
    assert vggt3("map", photograph, own_images / "000001.png", *options).failed_with(
        "would overwrite", code=2
    )
    others = [own_images / "000001.png", own_images / "000002.png"]
    assert vggt3("map", *others, *options).failed_with(
        "000000.png exists", "name the picture with --picture", code=2
    )
    assert content(own_images) == before
    picture = tmp_path / "top.JPG"
    assert vggt3("map", *others, *options, "--picture", picture).code == 0
    with Image.open(picture) as file:
        assert file.format == "JPEG"
    assert (own_images / "000000.png").read_bytes() == photograph.read_bytes()


@pytest.mark.parametrize("command", ["map", "evaluate"])
def test_missing_package_for_pictures_is_said_before_the_work(
    command: str,
    vggt3: Run,
    images: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    outcome = vggt3(command, images, "--out", tmp_path / "out", "--model", checkpoint)
    assert outcome.failed_with("matplotlib is needed for this command: pip install matplotlib")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--picture", "--json"])
@pytest.mark.parametrize(
    "place", ["{images}/000003.png", "{link}", "{scene}/points.ply", "{poses}", "{scene}.png"]
)
def test_outputs_do_not_replace_what_is_given(
    option: str,
    place: str,
    vggt3: Run,
    own_images: Path,
    checkpoint: Path,
    scene: Path,
    tmp_path: Path,
) -> None:
    link, poses = tmp_path / "link.png", tmp_path / "poses.png"
    link.symlink_to(own_images / "000003.png")
    poses.write_text("0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n")
    file = place.format(images=own_images, link=link, scene=scene, poses=poses)
    before = content(own_images), content(scene), poses.read_bytes()
    options = {"--out": scene, "--model": checkpoint, "--poses": poses, option: file}
    if place == "{scene}.png":
        options |= {"--json": file}  # the picture's own file
    outcome = vggt3("map", own_images, *(part for item in options.items() for part in item))
    assert outcome.code == 2 and (
        "would overwrite" in outcome.err or "must end with" in outcome.err
    ), outcome
    assert (content(own_images), content(scene), poses.read_bytes()) == before


@pytest.mark.parametrize("command", ["localize", "info"])
def test_json_does_not_replace_a_file_of_the_scene(
    command: str, vggt3: Run, images: Path, checkpoint: Path, scene: Path
) -> None:
    before = content(scene)
    arguments = {"info": [scene], "localize": [scene, images, "--model", checkpoint]}[command]
    assert vggt3(command, *arguments, "--json", scene / "scene.json").failed_with(
        "would overwrite", code=2
    )
    assert content(scene) == before


def test_images_that_do_not_fit_into_memory_are_not_decoded(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*arguments: object, **options: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(
        "vggt3_ros.pipeline.memory_check.available_bytes", lambda device: 5 * 96 * 128 * 3 - 1
    )
    monkeypatch.setattr("vggt3_ros.datasets.image_reader.read_image", decode)
    outcome = vggt3("map", images, "--out", tmp_path / "scene", "--model", checkpoint)
    assert outcome.failed_with("5 images take 0.00 GB of memory when decoded", "are available")


@pytest.mark.parametrize(
    "size",
    [
        {"width": "a", "height": 96},
        {"width": 128, "height": None},
        {"width": 128},
        {"width": 1.5, "height": 96},
    ],
)
def test_image_size_of_intrinsics_must_be_numbers(
    size: dict[str, Any], vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "intrinsics.json"
    file.write_text(json.dumps({"fx": 100, "fy": 100, "cx": 64, "cy": 48, **size}))
    outcome = vggt3(
        "map", images, "--out", tmp_path / "scene", "--model", checkpoint, "--intrinsics", file
    )
    assert outcome.failed_with("intrinsics.json: width and height must be whole numbers")


def test_too_little_memory_is_said_with_figures_beforehand(
    vggt3: Run, images: Path, checkpoint: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggt3_ros.pipeline.memory_check.available_bytes", lambda device: 1_000_000)
    before = content(scene)
    outcome = vggt3("map", images, "--out", scene, "--model", checkpoint)
    assert outcome.failed_with("mapping 5 frames", "GB of memory", "are available")
    assert content(scene) == before


def test_full_disk_is_a_failure_and_leaves_the_old_scene(
    images: Path, checkpoint: Path, scene: Path
) -> None:
    def limit_file_size() -> None:  # writing more to a file fails like on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    before = content(scene)
    result = subprocess.run(
        [sys.executable, "-m", "vggt3_ros", "map", images, "--out", scene, "--model", checkpoint],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limit_file_size, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1 and "Traceback" not in result.stderr, result
    assert "cannot save the scene" in result.stderr and "File too large" in result.stderr
    assert content(scene) == before
    assert [path.name for path in scene.parent.iterdir()] == ["scene"]


def test_scene_of_another_model_is_refused(
    vggt3: Run, images: Path, scene: Path, checkpoint: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(checkpoint, "pt") as handle:
        tensors, metadata = (
            {name: handle.get_tensor(name) for name in handle.keys()},
            handle.metadata(),
        )
    tensors["aggregator.camera_token"] = torch.zeros_like(tensors["aggregator.camera_token"])
    save_file(tensors, tmp_path / "other.safetensors", metadata)
    outcome = vggt3("localize", scene, images, "--model", tmp_path / "other.safetensors")
    assert outcome.failed_with("was made by network", "fingerprint")


@pytest.mark.parametrize(
    "file", ["scene.json", "keyframes.json", "memory.safetensors", "points.ply"]
)
@pytest.mark.parametrize("command", ["info", "localize"])
def test_damaged_scene_is_refused(
    file: str, command: str, vggt3: Run, images: Path, checkpoint: Path, scene: Path
) -> None:
    data = (scene / file).read_bytes()
    (scene / file).write_bytes(data[: len(data) // 2])
    arguments = (
        [scene] if command == "info" else [scene, images / "000001.png", "--model", checkpoint]
    )
    assert vggt3(command, *arguments).failed_with(str(scene), "damaged")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"focal_factor": 1.0625,', "", "verification lacks the entry 'focal_factor'"),
        ('"focal_factor": 1.0625', '"focal_factor": 1e999', "1e999 is too large for a number"),
        ('"focal_factor": 1.0625', '"focal_factor": NaN', "NaN is not a number of JSON"),
        ('"depth_scale": 2.5', '"depth_scale": null', "'depth_scale' must be a number"),
        (
            '"scale": 2.0,\n  "rotation"',
            '"scale": -2.0,\n  "rotation"',
            "scale of map_from_scene must be from",
        ),
        ('"version": 3', '"version": 4', "lacks the entry 'checksum'"),
        ('"reason": "12', '"reason": "\\ud800', "surrogates not allowed"),
        ("{", "[" * 100_000, "damaged or truncated"),
    ],
)
@pytest.mark.parametrize("command", ["info", "localize"])
def test_a_scene_that_nothing_can_be_computed_with_is_refused(
    command: str,
    old: str,
    new: str,
    why: str,
    vggt3: Run,
    images: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    """A scene of version 3, with landmarks; its scene.json has no checksum that would refuse all of
    this.
    """
    folder = Path(
        shutil.copytree(ROOT / "test" / "data" / "scenes" / "version_3", tmp_path / "map")
    )
    text = (folder / "scene.json").read_text()
    assert old in text
    (folder / "scene.json").write_text(text.replace(old, new, 1))
    arguments = (
        [folder] if command == "info" else [folder, images / "000001.png", "--model", checkpoint]
    )
    assert vggt3(command, *arguments).failed_with(str(folder), why)


@pytest.mark.parametrize("command", ["info", "localize"])
def test_a_scene_edited_by_hand_is_refused(
    command: str, vggt3: Run, images: Path, checkpoint: Path, scene: Path
) -> None:
    file = scene / "scene.json"
    file.write_text(file.read_text().replace('"map_frame": "map"', '"map_frame": "odom"'))
    arguments = (
        [scene] if command == "info" else [scene, images / "000001.png", "--model", checkpoint]
    )
    assert vggt3(command, *arguments).failed_with(
        f"{scene}: scene.json was edited by hand or damaged", "restore"
    )


def test_foreign_and_missing_folders_are_no_scenes(
    vggt3: Run, images: Path, tmp_path: Path
) -> None:
    assert vggt3("info", images).failed_with("is not a scene")
    assert vggt3("info", tmp_path / "missing").failed_with("does not exist")


def test_scene_in_a_read_only_place_can_be_used(
    vggt3: Run, images: Path, checkpoint: Path, scene: Path
) -> None:
    for path in (*scene.iterdir(), scene):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert vggt3("localize", scene, images / "000001.png", "--model", checkpoint).code == 0
    os.chmod(scene, 0o755)
