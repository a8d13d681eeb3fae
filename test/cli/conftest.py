"""A small checkpoint and a few real images, and a way to run the command line in this process."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggt3_ros.cli.main import main
from vggt3_ros.model.checkpoint import save_weights
from vggt3_ros.model.network import Vggt3


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and texts."""

    code: int
    out: str
    err: str

    def failed_with(self, *fragments: str, code: int = 1) -> bool:
        """One clear line on stderr with all the fragments in it, and the right exit code."""
        last = self.err.strip().splitlines()[-1]
        found = all(fragment in last for fragment in fragments) and last.startswith("vggt3")
        assert self.code == code and found and "Traceback" not in self.err, self
        return True


@pytest.fixture
def vggt3(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `vggt3 ARGUMENTS...` in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        texts = capsys.readouterr()
        return Outcome(code, texts.out, texts.err)

    return run


@pytest.fixture(scope="session")
def checkpoint(small_network: Vggt3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random network as a file, for --model; it sees a field of view of about 1 rad."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    network = copy.deepcopy(small_network)
    network.camera_head.pose_branch.fc2.bias[7:] += 1.0
    save_weights(network, path)
    return path


def textured(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth random image (H, W, 3) uint8; other seeds give other images."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * fine[0].permute(1, 2, 0)).byte().numpy()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five different images, 000000.png to 000004.png. Not to be changed by tests."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(5):
        Image.fromarray(textured(index)).save(folder / f"{index:06d}.png")
    return folder


@pytest.fixture
def own_images(images: Path, tmp_path: Path) -> Path:
    """A copy of `images` that a test may spoil."""
    folder = tmp_path / "own_images"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="session")
def finished_scene(
    images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A scene of the images. Not to be changed by tests."""
    folder = tmp_path_factory.mktemp("finished") / "scene"
    assert main(["map", str(images), "--out", str(folder), "--model", str(checkpoint)]) == 0
    return folder


@pytest.fixture
def scene(finished_scene: Path, tmp_path: Path) -> Path:
    """A scene that a test may spoil."""
    return Path(shutil.copytree(finished_scene, tmp_path / "scene"))


def map_images(room: Path, which: slice) -> list[Path]:
    """Some images of the drive through a room, in their order."""
    return sorted((room / "map").iterdir())[which]


def mapped(room: Path, which: slice, folder: Path) -> Path:
    """A verified scene of these images with their poses, which keeps them."""
    known = ["--poses", room / "poses.txt", "--intrinsics", room / "intrinsics.json"]
    images = map_images(room, which)
    arguments = ["map", *images, "--out", folder, *known, "--keep-images"]
    assert main([str(each) for each in arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def first(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first six frames of the drive. Not to be changed by tests."""
    return mapped(room, slice(0, 6), tmp_path_factory.mktemp("first") / "scene")


@pytest.fixture(scope="session")
def second(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last six frames. Not to be changed by tests."""
    return mapped(room, slice(2, 8), tmp_path_factory.mktemp("second") / "scene")
