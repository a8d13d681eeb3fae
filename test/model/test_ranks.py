"""Processes that map together give what one process gives alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vggt3_ros.cli.main import main
from vggt3_ros.errors import InputError
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.ranks import Ranks
from vggt3_ros.scene.storage import load_scene

from ..conftest import make_network
from ..patience import PATIENCE_S
from ..start_ranks import start_ranks
from .map_in_ranks import ANCHORS, FRAMES, MIXTURE, images

PROGRAM = Path(__file__).with_name("map_in_ranks.py")


@pytest.fixture(scope="module")
def alone() -> tuple[Prediction, SceneMemory]:
    return make_network(seed=4).map(images(), steps=2)


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory) -> tuple[Path, int]:
    """What each of some processes wrote, and their number."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = start_ranks([str(PROGRAM), str(folder)], request.param)
    errors = [process.communicate(timeout=2 * PATIENCE_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * request.param, errors
    return folder, request.param


def test_poses_depth_and_memory_are_those_of_one_process(together, alone) -> None:
    folder, world = together
    prediction, memory = alone
    said = [load_file(folder / f"{rank}.safetensors") for rank in range(world)]
    for each in said:
        assert {name: each[name].shape for name in memory.tensors()} == {
            name: tensor.shape for name, tensor in memory.tensors().items()
        }
        for name, tensor in memory.tensors().items():
            torch.testing.assert_close(each[name], tensor, rtol=1e-4, atol=1e-4)
            assert torch.equal(each[name], said[0][name])
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(said[0]["poses"], prediction.pose_encoding, **close)
    torch.testing.assert_close(said[0]["depth"], prediction.depth, **close)
    torch.testing.assert_close(said[0]["points"], prediction.pointmap, **close)


def test_a_mixture_is_mapped_together(together) -> None:
    prediction, memory = make_network(MIXTURE, seed=4).map(images(), anchors=ANCHORS)
    said = load_file(together[0] / "0.safetensors")
    torch.testing.assert_close(said["mixture.depth"], prediction.depth, rtol=1e-4, atol=1e-4)
    for name, tensor in memory.tensors().items():
        close = 2e-3 if tensor.dtype == torch.float16 else 1e-4
        torch.testing.assert_close(said[f"mixture.{name}"], tensor, rtol=close, atol=close)


def test_each_has_a_share_of_the_frames(together, alone) -> None:
    folder, world = together
    shares = []
    for rank in range(1, world):
        said = load_file(folder / f"{rank}.safetensors")
        first, end = said["share"].tolist()
        shares.append(end - first)
        torch.testing.assert_close(said["depth"], alone[0].depth[first:end], rtol=1e-4, atol=1e-4)
    assert max(shares) - min(shares) <= 1 and sum(shares) < FRAMES


def test_those_who_wait_for_one_that_has_ended_say_so(together) -> None:
    folder, world = together
    for rank in range(world - 1):
        told = (folder / f"{rank}.txt").read_text()
        assert told.startswith(f"process {rank} of {world} waits for the others in vain")


class Many(Ranks):
    """As one of seven processes, connected with nobody."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.world = 7


def test_more_processes_than_frames_are_refused() -> None:
    with pytest.raises(InputError, match="7 processes share 5 frames; start at most 5"):
        make_network(seed=4).map(images(), ranks=Many())


def test_two_processes_of_the_command_write_one_scene(tmp_path, drive) -> None:
    from PIL import Image as Pillow

    folder = tmp_path / "images"
    folder.mkdir()
    for number in map(int, drive.map_indices[:4]):
        Pillow.fromarray(drive.images[number]).save(folder / f"{number}.png")
    redundant = {"90": drive.images[2], "91": (0.8 * drive.images[2]).astype("uint8")}
    for name, image in redundant.items():
        Pillow.fromarray(image).save(folder / f"{name}.png")
    map_it = ["map", str(folder), "--dense", "off", "--out"]
    assert main([*map_it, str(tmp_path / "one")]) == 0
    report = tmp_path / "two.json"
    command = ["-m", "vggt3_ros", *map_it, str(tmp_path / "two"), "--json", str(report)]
    processes = start_ranks(command)
    said = [process.communicate(timeout=2 * PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "scene" in said[0][0] and said[1] == ("", "")
    one, two = (load_scene(tmp_path / name) for name in ("one", "two"))
    made = json.loads(report.read_text())
    assert made["given"]["images"] == 6
    assert made["views"] == {"fitted": 4, "queried": 1, "repeated": 1}
    torch.testing.assert_close(
        one.keyframes.cam_from_world, two.keyframes.cam_from_world, rtol=1e-3, atol=1e-3
    )
    for name, tensor in one.memory.items():
        torch.testing.assert_close(two.memory[name], tensor, rtol=1e-3, atol=1e-3)
