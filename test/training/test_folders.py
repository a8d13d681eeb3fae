"""`vggt3 train` reads posed RGB-D folders in three layouts, and refuses what it cannot train on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vggt3_ros.cli.main import main
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import quaternion_from_rotation
from vggt3_ros.training.folders import read_recording
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.recordings import Recording

from .conftest import CPU, MINIATURE

CAMERA = {"fx": 60, "fy": 60, "cx": 43, "cy": 28, "width": 80, "height": 60, "distortion": "none"}


def save(
    picture: tuple[np.ndarray, np.ndarray], image: Path, depth: Path | None, units: float
) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture[0]).save(image)
    if depth is not None:
        depth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture[1] * units).round().astype(np.uint16)).save(depth)


def as_plain(recording: Recording, folder: Path, with_depth: bool = True) -> Path:
    rows = []
    for i, pose in enumerate(recording.world_from_cam):
        depth = folder / "depth" / f"{i:06d}.png" if with_depth else None
        save(recording.read(i), folder / "images" / f"{i:06d}.png", depth, 1000)
        rows.append(f"{i} " + " ".join(f"{value:.9f}" for value in pose.flatten().tolist()))
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    (folder / "intrinsics.json").write_text(json.dumps(CAMERA))
    return folder


def as_tum(recording: Recording, folder: Path) -> Path:
    rgb, depths, truth = [], [], []
    for i, pose in enumerate(recording.world_from_cam):
        save(recording.read(i), folder / "rgb" / f"{i}.png", folder / "depth" / f"{i}.png", 5000)
        rgb.append(f"{i}.0 rgb/{i}.png")
        depths.append(f"{i}.01 depth/{i}.png")
        numbers = [*pose[:3, 3].tolist(), *quaternion_from_rotation(pose[:3, :3]).tolist()]
        truth.append(f"{i}.005 " + " ".join(f"{number:.9f}" for number in numbers))
    for name, rows in (("rgb", rgb), ("depth", depths), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    (folder / "intrinsics.json").write_text(json.dumps(CAMERA))
    return folder


def as_seven_scenes(recording: Recording, folder: Path) -> Path:
    """The first 12 frames are for training, the others for testing."""
    for i, pose in enumerate(recording.world_from_cam):
        stem = folder / f"seq-0{1 + i // 12}" / f"frame-{i % 12:06d}"
        save(recording.read(i), Path(f"{stem}.color.png"), Path(f"{stem}.depth.png"), 1000)
        Path(f"{stem}.pose.txt").write_text(
            "\n".join(" ".join(f"{v:.9f}" for v in row) for row in pose.tolist())
        )
    (folder / "TrainSplit.txt").write_text("sequence1\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")
    (folder / "intrinsics.json").write_text(json.dumps(CAMERA))
    return folder


@pytest.mark.parametrize(("write", "frames"), [(as_plain, 24), (as_tum, 24), (as_seven_scenes, 12)])
def test_a_folder_gives_the_frames_that_are_in_it(recording, tmp_path, write, frames) -> None:
    read = read_recording(str(write(recording, tmp_path / "room")))
    assert len(read.world_from_cam) == frames
    torch.testing.assert_close(
        read.world_from_cam, recording.world_from_cam[:frames], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(read.intrinsics, recording.intrinsics)
    (image, depth), (true_image, true_depth) = read.read(7), recording.read(7)
    assert np.array_equal(image, true_image)
    if write is as_seven_scenes:  # whose depth is of another camera, larger than these images
        return
    np.testing.assert_allclose(depth, true_depth, atol=6e-4)
    config = replace(MINIATURE, folders=("room",), real=1.0)
    batch = ScenePool(config, CPU, [read]).batch(0, 0.0)
    assert batch.images.shape == (2, 3, 3, 48, 64)
    assert 0.1 < float((batch.depth == 0).float().mean()) < 0.9


def test_folders_without_depth_and_what_is_no_folder_are_refused(recording, tmp_path) -> None:
    folder = as_plain(recording, tmp_path / "bare", with_depth=False)
    with pytest.raises(
        InputError,
        match="bare: no depth images, so it cannot be trained on; a plain folder has them",
    ):
        read_recording(str(folder))
    for absent in (str(tmp_path / "absent"), "room:900001"):
        with pytest.raises(InputError, match="training config: there is no folder"):
            read_recording(absent)


def test_the_command_trains_on_folders_and_rooms(recording, tmp_path, capsys) -> None:
    folder = as_plain(recording, tmp_path / "room")
    config = replace(
        MINIATURE, softmax_steps=2, distil_steps=0, ttt_steps=0, folders=(str(folder),), real=0.5
    )
    settings = tmp_path / "run.yaml"
    settings.write_text(yaml.safe_dump(config.to_dict()))
    command = [
        "train",
        "--config",
        str(settings),
        "--run",
        str(tmp_path / "run"),
        "--precision",
        "fp32",
    ]
    assert main([*command, "--device", "cpu"]) == 0
    assert "step 2 of 2 (softmax)" in capsys.readouterr().out
    (folder / "poses.txt").unlink()
    assert main([*command, "--device", "cpu"]) == 1
    assert "not a sequence with true poses" in capsys.readouterr().err
