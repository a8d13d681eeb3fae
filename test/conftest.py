"""Fixtures shared by all tests: small networks with seeded random weights, rooms, and where the
golden files lie.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

# threads that wait for each other make small networks crawl
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from vggt3_ros.allocation import keep_freed_memory
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

keep_freed_memory()  # as every program of ours does

GOLDEN = Path(__file__).parent / "data" / "network"


def small_config(attn: str = "ttt") -> ModelConfig:
    """A network of a few thousand weights for 56 x 70 pixels, patch 14. attn: the kind of its
    global layers, or four of them with commas between.
    """
    kinds = attn.split(",")
    return ModelConfig(
        patch_size=14,
        embed_dim=32,
        num_heads=2,
        depth=4,
        intermediate_layers=(0, 1, 2, 3),
        camera_num_heads=4,
        camera_trunk_depth=2,
        dpt_features=16,
        dpt_out_channels=(16, 32, 32, 32),
        global_attention=tuple(kinds if len(kinds) == 4 else 4 * kinds),  # type: ignore[arg-type]
        pos_embed_grid=5,
        dino_depth=2,
        dino_num_heads=2,
        ttt=TttConfig() if "ttt" in attn else None,
        image_size=70,
    )


def make_network(attn: str = "ttt", seed: int = 0) -> Vggt3:
    """A small network with seeded random weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Vggt3(small_config(attn))
        for token in (network.aggregator.camera_token, network.aggregator.register_token):
            # published networks start at 1e-6; a trained one tells the reference frame apart
            token.data.normal_()
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    network.model_id = f"small-{attn}-{seed}"
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def small_network() -> Vggt3:
    """Fast-weight network with random weights."""
    return make_network("ttt")


@pytest.fixture(scope="session")
def softmax_network() -> Vggt3:
    """Softmax network with random weights."""
    return make_network("softmax")


@pytest.fixture(scope="session")
def drive() -> RoomSequence:
    """A short drive through a room: 8 frames to map and 4 queries beside the path."""
    return room_sequence(900_002, 8, 4, length=2.5)


@pytest.fixture(scope="session")
def elsewhere() -> RoomSequence:
    """Two images of another room."""
    return room_sequence(4, 1, 1)


@pytest.fixture(scope="session")
def room(
    drive: RoomSequence, elsewhere: RoomSequence, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A drive as files: map/, queries/, depth/, poses.txt, intrinsics.json, and other.png of
    another room.
    """
    folder = tmp_path_factory.mktemp("room")
    for part, indices in (("map", drive.map_indices), ("queries", drive.query_indices)):
        (folder / part).mkdir()
        for index in indices:
            Image.fromarray(drive.images[index]).save(folder / part / f"{index:06d}.png")
    (folder / "depth").mkdir()
    for index in drive.map_indices:
        millimetres = np.round(1000 * drive.depth[index]).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{index:06d}.png")
    rows = [(int(i), drive.world_from_cam[i].flatten().tolist()) for i in drive.map_indices]
    (folder / "poses.txt").write_text(
        "\n".join(f"{i} {' '.join(map(repr, row))}" for i, row in rows)
    )
    fx, fy = (float(drive.intrinsics[i, i]) for i in (0, 1))
    calibration = {
        "fx": fx,
        "fy": fy,
        "cx": float(drive.intrinsics[0, 2]),
        "cy": float(drive.intrinsics[1, 2]),
    }
    (folder / "intrinsics.json").write_text(json.dumps(calibration | {"width": 320, "height": 240}))
    Image.fromarray(elsewhere.images[0]).save(folder / "other.png")
    return folder
