"""A run of a few steps with a network of a few thousand weights, and a recording photographed in a
procedural room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.training import validations
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.recordings import Picture, Recording
from vggt3_ros.training.trainer import StepReport, Trainer
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.trajectories import drive

from ..few_textures import few_textures

RECIPES = Path(__file__).parents[2] / "recipes"
CPU = torch.device("cpu")
CONFIG = TrainConfig.read(RECIPES / "train_tiny.yaml")
MINIATURE = replace(
    CONFIG,
    model=replace(
        CONFIG.model,
        embed_dim=32,
        num_heads=1,
        dpt_features=8,
        dpt_out_channels=(8, 8, 8, 8),
        image_size=64,
    ),
    height=48,
    width=64,
    views=3,
    fewest_views=3,
    query_views=1,
    scenes=2,
    softmax_steps=3,
    distil_steps=2,
    ttt_steps=2,
    pool_groups=2,
    group_rooms=2,
    renewals=3,
    validations=1,
    abort_after=0.0,
    validation_rooms=1,
)


def ignore(report: StepReport) -> None:
    """A listener that does not care."""


def train(
    folder: Path,
    stop_at: int | None = None,
    config: TrainConfig = MINIATURE,
    recordings: tuple[Recording, ...] = (),
) -> Trainer:
    """Run in fp32, whose results do not depend on kernels chosen by the machine's load; stop as by
    Ctrl-C.
    """

    trainer = Trainer(config, folder, CPU, bf16=False, recordings=recordings)
    trainer.run(ignore, stop=lambda: trainer.step == stop_at)
    return trainer


def photograph(
    frames: int = 24, size_hw: tuple[int, int] = (60, 80), holes: bool = True
) -> Recording:
    """A drive of 2 m through a room by a camera with its principal point off the centre.

    With holes, depth is unknown in the left third of every image.
    """
    height, width = size_hw
    room = make_rooms([3], CPU)
    world_from_cam = drive(room, frames, torch.Generator().manual_seed(0), length=2.0)
    intrinsics = intrinsics_matrix(60.0, 60.0, width / 2 + 3, height / 2 - 2)
    views = render(room, world_from_cam[None], intrinsics, height, width)
    images = (views.images[0] * 255).round().to(torch.uint8).movedim(1, -1).numpy()
    depth = views.depth[0].numpy().astype(np.float32)
    if holes:
        depth[:, :, : width // 3] = 0

    def read(index: int) -> Picture:
        return images[index].copy(), depth[index].copy()

    return Recording("photographs", world_from_cam, intrinsics, read)


@pytest.fixture(scope="module")
def quickly_painted() -> Iterator[None]:
    """Few textures: for tests of anything but how rooms look."""
    with few_textures():
        yield


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Few textures, and validations that find something at once: for tests of neither."""
    figures = {"pair_rotation_deg": 1.0, "still_pair_rotation_deg": 2.0}
    with few_textures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(validations, "validation_rooms", lambda config, device: [])
        patch.setattr(validations, "validate", lambda network, rooms: figures)
        yield


@pytest.fixture(scope="session")
def recording() -> Recording:
    """24 frames of 80 x 60 pixels with holes in their depth."""
    return photograph()
