from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame, Image


def textured(seed: int, height: int = 48, width: int = 64) -> Image:
    """A seeded image of smooth coloured blotches, each seed another one."""
    dice = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(
            columns * dice.uniform(0.05, 0.4) + rows * dice.uniform(-0.4, 0.4) + dice.uniform(0, 6)
        )
        for _ in range(3)
    ]
    return (127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def with_plausible_view(network: Vggt3) -> Vggt3:
    """The network with fields of view around 1 radian; random weights alone mostly say 0."""
    network = copy.deepcopy(network)
    network.camera_head.pose_branch.fc2.bias.data[7:9] += torch.tensor([0.22, 0.5])
    return network


@pytest.fixture(scope="session")
def small_network(small_network: Vggt3) -> Vggt3:
    return with_plausible_view(small_network)


@pytest.fixture
def make_image() -> Callable[..., Image]:
    return textured


@pytest.fixture
def make_frames() -> Callable[..., list[Frame]]:
    """`count` different frames of 48 x 64 pixels with names and stamps."""

    def make(count: int) -> list[Frame]:
        return [Frame(textured(i), stamp_ns=i * 10**8, name=f"{i:03}.png") for i in range(count)]

    return make
